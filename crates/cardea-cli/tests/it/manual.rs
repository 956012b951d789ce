//! The manual's pages.

use std::fs;
use std::process::Command;

use crate::support::{Place, Run};

#[test]
fn pages_have_no_warnings() {
    let place = Place::without_daemon();
    let folder = place.path("man");
    fs::create_dir(&folder).unwrap();
    let written = place.run(&["manual", "--out", folder.to_str().unwrap()]);
    assert_eq!(written.code, 0, "{written:?}");
    let pages: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    for page in &pages {
        let checked = Run::of(
            Command::new("groff")
                .args(["-K", "utf8", "-man", "-ww", "-z"])
                .arg(page)
                .output()
                .unwrap(),
        );
        assert_eq!(
            (checked.code, checked.err.as_str()),
            (0, ""),
            "{}",
            page.display()
        );
    }
    for name in [
        "cardea.1",
        "cardea-card.1",
        "cardea-card-create.1",
        "cardea-helpdesk-respond.1",
        "tpmvscmgr.1",
    ] {
        assert!(pages.iter().any(|page| page.ends_with(name)), "{name}");
    }
    assert!(
        !pages.iter().any(|page| page.ends_with("cardea-manual.1")),
        "it is no command for people"
    );
    let shown = Run::of(
        Command::new("groff")
            .args(["-K", "utf8", "-man", "-Tutf8"])
            .arg(folder.join("cardea-card-create.1"))
            .output()
            .unwrap(),
    );
    assert!(shown.out.contains("Create a card"), "{shown:?}");
    for (page, advice) in [
        ("cardea-card-destroy.1", "cannot be undone"),
        ("cardea-pin-change.1", "an ordinary shutdown"),
    ] {
        let text = fs::read_to_string(folder.join(page)).unwrap();
        assert!(text.replace('\n', " ").contains(advice), "{page}");
    }
}

#[test]
fn folder_that_is_not_there_is_named() {
    let place = Place::without_daemon();
    let failed = place.run(&["manual", "--out", "/nonexistent/man"]);
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.err.contains("/nonexistent/man"), "{failed:?}");
}
