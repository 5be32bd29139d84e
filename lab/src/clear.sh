# Removes what one lab, or one group of it, left on this machine: clear.sh DIRECTORY NAMESPACE_PREFIX [wait]
# With "wait" it first waits until standard input ends: then it is the keeper of a running lab, whose end of the
# pipe closes when the lab's process is gone, however it went.
# Processes are known by their working directory, because servers overwrite their own command line.
dir=$1
prefix=$2
case $dir in */relinkd-lab-[0-9]*) ;; *) exit 64 ;; esac
case $prefix in relinkd-lab-[0-9]*-) ;; *) exit 64 ;; esac

if [ "${3:-}" = wait ]; then
    trap '' HUP INT TERM
    cat >/dev/null
fi

# Twice: a process may have been between fork and the moment at which it asked to die with its parent.
for _ in 1 2; do
    find /proc -maxdepth 2 -name cwd \( -lname "$dir" -o -lname "$dir/*" -o -lname "$dir (deleted)" \) 2>/dev/null |
        while IFS=/ read -r _ _ pid _; do
            [ "$pid" = "$$" ] || kill -KILL "$pid" 2>/dev/null
        done
done

for file in /run/netns/"$prefix"*; do
    [ -e "$file" ] || continue
    name=${file##*/}
    for pid in $(ip netns pids "$name" 2>/dev/null); do kill -KILL "$pid" 2>/dev/null; done
    ip netns delete "$name"
done

while read -r _ mount _; do
    case $mount in "$dir"/*) umount "$mount" 2>/dev/null || umount -l "$mount" ;; esac
done </proc/self/mounts

rm -rf "$dir"
