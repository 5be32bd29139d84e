//! Faults of the network, inside namespaces that the lab made.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use lab::{Answer, Group, Host, Kind, Receiver};

const PATIENCE: Duration = Duration::from_secs(30);

fn group_in_namespaces() -> Option<Group> {
    lab::require_namespaces()?;
    let kind = lab::require(Kind::Redis70)?;
    let builder = Group::builder(kind).replicas(1).sentinels(3).password("pw").namespaces(true);
    Some(builder.config("repl-timeout", "2").config("repl-ping-replica-period", "1").start().unwrap())
}

fn hosts(group: &Group) -> (&Host, &Host) {
    (group.primary().host().unwrap(), group.replica(0).host().unwrap())
}

#[test]
fn cuts_and_rejects_break_the_link_until_undone() {
    let Some(group) = group_in_namespaces() else { return };
    let (primary, replica) = hosts(&group);
    assert_eq!(group.primary().endpoint(), ("10.77.0.1".to_owned(), 6379));

    let cut = replica.cut_from(primary).unwrap();
    assert!(group.replica(0).wait_link_down(PATIENCE).is_some());
    // No answer at all is a SYN that waits; others still see the primary.
    assert!(
        group.replica(0).wait_until(|server| server.role_state().as_deref() == Some("connecting"), PATIENCE).is_some()
    );
    assert_eq!(group.sentinel(0).sentinel_field("flags").as_deref(), Some("master"));
    cut.undo().unwrap();
    assert!(group.replica(0).wait_link_up(PATIENCE).is_some());

    let rejected = primary.reject(replica, 6379).unwrap();
    assert!(group.replica(0).wait_log("Connection refused", PATIENCE).is_some());
    rejected.undo().unwrap();
    assert!(group.replica(0).wait_link_up(PATIENCE).is_some());

    let unplugged = replica.unplug().unwrap();
    assert!(group.replica(0).wait_link_down(PATIENCE).is_some());
    unplugged.undo().unwrap();
    assert!(group.replica(0).wait_link_up(PATIENCE).is_some());
}

#[test]
fn a_slow_link_holds_back_the_stream() {
    let Some(group) = group_in_namespaces() else { return };
    let (primary, _) = hosts(&group);
    let slow = primary.slow_down(256).unwrap();
    group.primary().write(100, 2048).unwrap();
    let written = group.primary().offset().unwrap();
    assert!(group.replica(0).offset().unwrap() < written, "200 kB cannot pass 256 kbit/s at once");
    slow.undo().unwrap();
    assert!(group.replica(0).wait_until(|server| server.offset() >= Some(written), PATIENCE).is_some());
}

#[test]
fn a_receiver_listens_beside_a_server_even_while_its_network_is_down() {
    let Some(group) = group_in_namespaces() else { return };
    let mut receiver = Receiver::start().unwrap();
    let url = receiver.listen_beside(group.replica(0)).unwrap();
    receiver.answer_next([Answer::status(503).header("retry-after", "7").body("later")]);
    let (_, host) = hosts(&group);
    let _unplugged = host.unplug().unwrap();
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let post = || {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"POST /hook HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n{\"n\":1}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = host.inside(post).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nretry-after: 7\r\n") && answer.ends_with("later")
    );
    assert!(host.inside(post).unwrap().starts_with("HTTP/1.1 200 "));
    assert!(TcpStream::connect(address).is_err(), "the listener is in the namespace only");
    let requests = receiver.wait_for(2, PATIENCE).unwrap();
    assert_eq!((requests[0].method.as_str(), requests[0].path.as_str()), ("POST", "/hook"));
    assert_eq!(receiver.messages()[1]["n"], 1);
}

#[test]
fn a_host_far_away_is_heard_as_late_as_that_and_keeps_its_connections() {
    let Some(group) = group_in_namespaces() else { return };
    let (_, replica) = hosts(&group);
    let far = replica.move_away(Duration::from_millis(200)).unwrap();
    // The quickest of five: a SYN that is lost is sent again a second later.
    let quickest = || {
        let connect = |_| {
            let began = std::time::Instant::now();
            replica.inside(|| TcpStream::connect_timeout(&"10.77.0.1:6379".parse().unwrap(), PATIENCE)).unwrap();
            began.elapsed()
        };
        (0..5).map(connect).min().unwrap()
    };
    let took = quickest();
    assert!(took >= Duration::from_millis(200) && took < Duration::from_millis(900), "{took:?}");
    assert!(group.replica(0).is_link_up());
    far.undo().unwrap();
    let took = quickest();
    assert!(took < Duration::from_millis(150), "{took:?}");
}
