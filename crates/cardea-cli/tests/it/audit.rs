//! `cardea audit`: told, and checked for what somebody did to the records.

use std::fs;

use crate::support::Place;

#[test]
fn records_are_shown_and_every_kind_of_tampering_is_found() {
    let place = Place::new();
    for name in ["one", "two", "three"] {
        place.create(name, &[]);
    }
    let wrong = place.file("wrong", "000000");
    let refused = place.run(&["pin", "verify", "one", "--pin-file", &wrong]);
    assert_eq!(refused.code, 4, "{}", refused.err);

    let told = place.run(&["audit"]);
    assert_eq!(told.code, 0, "{}", told.err);
    assert_eq!(told.out.lines().count(), 5, "{}", told.out);
    assert!(
        told.out.contains("pin-failed  card one  tries left 4"),
        "{}",
        told.out
    );
    let json = place.run(&["audit", "--json"]);
    let records: Vec<serde_json::Value> = json
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(records[4]["id"], 202);
    assert_eq!(records[0]["event"], "tpm-examined");
    assert_eq!(records[1]["event"], "card-created");

    let whole = place.run(&["audit", "--verify"]);
    assert_eq!(whole.code, 0, "{}", whole.err);
    assert!(whole.out.starts_with("5 records"), "{}", whole.out);
    let checked = place.run(&["audit", "--verify", "--json"]).json();
    assert_eq!(checked["whole"], true);

    let file = place.path("state").join("audit.jsonl");
    let good = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let join = |lines: &[&str]| {
        lines
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    let edited = good.replace("\"two\"", "\"owt\"");
    let deleted = join(&[lines[0], lines[2], lines[3], lines[4]]);
    let reordered = join(&[lines[1], lines[0], lines[2], lines[3], lines[4]]);
    let truncated = join(&lines[..4]);
    let last_edited = good.replace("\"left\":4", "\"left\":5");
    for (how, content, record) in [
        ("edited", edited, 4),
        ("deleted", deleted, 2),
        ("reordered", reordered, 1),
        ("truncated", truncated, 5),
        ("last edited", last_edited, 5),
        ("emptied", String::new(), 1),
    ] {
        fs::write(&file, content).unwrap();
        let found = place.run(&["audit", "--verify"]);
        assert_eq!(found.code, 1, "{how}: {}", found.out);
        assert!(
            found.err.contains(&format!("record {record}:")),
            "{how}: {}",
            found.err
        );
        let json = place.run(&["audit", "--verify", "--json"]);
        assert_eq!(
            (json.code, &json.json()["whole"]),
            (1, &serde_json::json!(false)),
            "{how}"
        );
    }
    fs::write(&file, &good).unwrap();
    assert_eq!(place.run(&["audit", "--verify"]).code, 0);
    // What the journal has said.
    let known = format!("2:{}", records[2]["previous"].as_str().unwrap());
    assert_eq!(place.run(&["audit", "--verify", "--head", &known]).code, 0);
    let other = format!("2:{}", "0".repeat(64));
    let found = place.run(&["audit", "--verify", "--head", &other]);
    assert!(
        found.code == 1 && found.err.contains("record 2"),
        "{}",
        found.err
    );
    assert_eq!(place.run(&["audit", "--verify", "--head", "2"]).code, 2);

    if let Some(other) = place.run_as_other(&["audit"]) {
        assert_eq!(other.code, 6, "{}", other.err);
    }
}
