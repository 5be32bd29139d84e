//! A link that drops again and again, and reads up at almost every look: one incident, one message, under the cause that
//! the drops tell of.

#[path = "live/catalogue.rs"]
mod catalogue;
mod live;

use std::time::Duration;

use catalogue::{by_hand_named, filled, list, over, rules_out, silence, told, undo};
use lab::{Group, Kind, Server, fault, flapping};
use live::{PATIENCE, Scene, Setup, on_each_server};
use serde_json::{Value, json};

on_each_server! {
    backlog => drops_that_each_cost_a_full_resync_are_one_incident_redis_70,
        drops_that_each_cost_a_full_resync_are_one_incident_valkey_80;
    output_buffer => a_link_that_the_primary_cuts_for_its_output_buffer_is_one_incident_redis_70,
        a_link_that_the_primary_cuts_for_its_output_buffer_is_one_incident_valkey_80;
    kills => drops_that_heal_by_themselves_are_one_incident_redis_70,
        drops_that_heal_by_themselves_are_one_incident_valkey_80;
    blips => three_blips_are_no_incident_redis_70, three_blips_are_no_incident_valkey_80;
}

const EVERY: Duration = Duration::from_secs(2);

fn scene(kind: Kind, backlog: &str) -> Scene {
    let group = Group::builder(kind).replicas(1).config("repl-backlog-size", backlog).start().expect("a group");
    filled(&group);
    let policy = "background = \"1s\"\n".to_owned();
    Scene::start(group, &Setup { policy, sentinels: false, ..Setup::default() })
}

fn drops(replica: &Server) -> usize {
    replica.log_text().matches("lost.").count()
}

/// So many more drops.
fn more(scene: &Scene, count: usize) {
    let begun = drops(scene.replica());
    let dropped = scene.replica().wait_until(|replica| drops(replica) >= begun + count, PATIENCE * 2);
    assert!(dropped.is_some(), "{}", scene.replica().log_text());
}

/// It has to stand for three times the longest gap between two drops first.
fn ends(scene: &Scene, opened: &Value) -> Value {
    let resolved = |request: &lab::Request| request.json().is_some_and(|told| told["event"] == "resolved");
    scene.receiver.wait_until(PATIENCE * 3, |all| all.iter().any(resolved));
    over(scene, opened)
}

/// It is known as a flapping link, under this cause.
fn flaps(scene: &Scene, code: &str) -> Value {
    scene.wait_status("it is seen to flap", |status| {
        status["sentence"].as_str().is_some_and(|told| told.starts_with(code) && told.contains("dropped "))
    });
    scene.told_event("opened")
}

fn one_message(scene: &Scene, code: &str) -> Value {
    assert_eq!(told(scene), [("opened".to_owned(), code.to_owned())], "{}", scene.agent.log());
    let incidents = scene.incidents();
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    let id = incidents[0]["id"].as_str().expect("an id").to_owned();
    let shown = scene.verb_json(&["show", &id]);
    assert_eq!((&shown["actions"], &shown["held"][0]["refusal"]), (&json!([]), &json!("no-safe-remedy")), "{shown:#}");
    assert!(shown["because"].to_string().contains("dropped "), "{shown:#}");
    shown
}

fn advises(scene: &Scene, told: &str) {
    let steps = scene.status()["next_steps"].to_string();
    assert!(steps.contains(told), "no {told:?} in {steps}");
}

fn backlog(kind: Kind) {
    let scene = scene(kind, "16384");
    let cuts = flapping::outrun_again_and_again(scene.group.primary(), EVERY).expect("cuts");
    let opened = flaps(&scene, "backlog-too-small");
    more(&scene, 3);
    one_message(&scene, "backlog-too-small");
    advises(&scene, "for a minute of the writes measured here");
    by_hand_named(&scene, "backlog-too-small", &format!("flapping-{}", kind.code()));
    undo(cuts);
    let resolved = ends(&scene, &opened);
    assert!(resolved["summary"].to_string().contains("which dropped and came back for"), "{resolved:#}");
}

fn output_buffer(kind: Kind) {
    let scene = scene(kind, "16384");
    let cuts = flapping::values_beyond_the_output_buffer(scene.group.primary(), EVERY).expect("values");
    let opened = flaps(&scene, "output-buffer-exceeded");
    more(&scene, 3);
    one_message(&scene, "output-buffer-exceeded");
    advises(&scene, "client-output-buffer-limit 'replica ");
    by_hand_named(&scene, "output-buffer-exceeded", &format!("flapping-{}", kind.code()));
    undo(cuts);
    ends(&scene, &opened);
}

fn kills(kind: Kind) {
    let mut scene = scene(kind, "16mb");
    let cuts = flapping::cut_again_and_again(scene.group.primary(), EVERY);
    let opened = flaps(&scene, "unknown");
    // Five are told at once; a look that is a turn late meets more.
    let dropped = |told: &str| (5..=9).any(|count| told.contains(&format!("dropped {count} times in ")));
    assert!(opened["summary"].as_str().is_some_and(dropped), "{opened:#}");
    assert!(list(&opened["because"]).any(|fact| fact["means"].to_string().contains("would decide")), "{opened:#}");
    rules_out(&opened, &["primary-down", "auth-rejected"]);
    by_hand_named(&scene, "unknown", &format!("flapping-{}", kind.code()));
    // It goes on over a restart of relinkd, and is the same incident.
    scene.agent.kill9();
    scene.agent.start_again().expect("relinkd starts again");
    more(&scene, 3);
    one_message(&scene, "unknown");
    undo(cuts);
    ends(&scene, &opened);
}

fn blips(kind: Kind) {
    let scene = scene(kind, "16mb");
    for _ in 0..3 {
        let begun = drops(scene.replica());
        fault::cut_replicas(scene.group.primary()).expect("a cut");
        assert!(scene.replica().wait_until(|replica| drops(replica) > begun, PATIENCE).is_some());
        assert!(scene.replica().wait_link_up(PATIENCE).is_some());
        scene.wait_status("all is well", |status| status["link_up"] == true);
    }
    // What the primary resumes for others is no drop of this link.
    flapping::resume_as_another(scene.group.primary(), 8).expect("resumed");
    for _ in 0..2 {
        let looked = scene.status()["looked_at"].clone();
        scene.wait_status("it has looked since", |status| status["looked_at"] != looked);
    }
    silence(&scene);
}
