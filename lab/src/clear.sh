# Removes what one lab, or one group of it, left on this machine: clear.sh DIRECTORY NAMESPACE_PREFIX [wait]
# With "wait" it first waits until standard input ends: then it is the keeper of a running lab, whose end of the
# pipe closes when the lab's process is gone, however it went.
# Processes are known by their standard input, a file below the directory. Servers overwrite their own command line,
# and a working directory there may be that of somebody's shell.
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
    find /proc/[0-9]*/fd/0 -maxdepth 0 -lname "$dir/*" 2>/dev/null | while IFS=/ read -r _ _ pid _; do
        kill -KILL "$pid" 2>/dev/null
    done
done

for file in /run/netns/"$prefix"*; do
    [ -e "$file" ] || continue
    ip netns delete "${file##*/}"
done

while read -r _ mount _; do
    case $mount in "$dir"/*) umount "$mount" 2>/dev/null || umount -l "$mount" ;; esac
done </proc/self/mounts

rm -rf "$dir"
