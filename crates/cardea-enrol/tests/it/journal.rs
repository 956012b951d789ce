//! Files of jobs.

use std::os::unix::fs::PermissionsExt;

use cardea_enrol::{Error, FolderJournal, Job, Journal};

use crate::authority::{NOW, order};

#[test]
fn files_are_private_whole_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = folder.path().join("cardea/jobs");
    let mut journal = FolderJournal::open(&jobs, "abcd").unwrap();
    let mut job = Job::new("abcd", order(), NOW).unwrap();
    job.request = Some(vec![1, 2, 3]);
    journal.save(&job).unwrap();
    journal.save(&job).unwrap();
    // What a power cut leaves behind is not a job, and is replaced.
    std::fs::write(jobs.join(format!("{}.new", job.id)), "{").unwrap();
    journal.save(&job).unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&jobs) & 0o777, 0o700);
    let file = jobs.join(format!("{}.json", job.id));
    assert_eq!(mode(&file) & 0o777, 0o600);
    let (listed, errors) = FolderJournal::list(&jobs);
    assert!(errors.is_empty());
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].request, job.request);
    assert_eq!(listed[0].key_id, job.key_id);

    std::fs::write(jobs.join("other.json"), std::fs::read(&file).unwrap()).unwrap();
    std::fs::write(jobs.join("broken.json"), "{}").unwrap();
    let (listed, errors) = FolderJournal::list(&jobs);
    assert_eq!((listed.len(), errors.len()), (1, 2));
    journal.remove(&job).unwrap();
    assert!(!file.exists());
}

#[test]
fn one_program_at_a_time_works_for_a_card() {
    let folder = tempfile::tempdir().unwrap();
    let first = FolderJournal::open(folder.path(), "abcd").unwrap();
    let second = FolderJournal::open(folder.path(), "abcd").unwrap_err();
    assert!(matches!(second, Error::Busy));
    FolderJournal::open(folder.path(), "other").unwrap();
    drop(first);
    FolderJournal::open(folder.path(), "abcd").unwrap();
    assert!(FolderJournal::open(folder.path(), "../abcd").is_err());
}

#[test]
fn full_disk_leaves_the_earlier_job() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = FolderJournal::open(folder.path(), "abcd").unwrap();
    let mut job = Job::new("abcd", order(), NOW).unwrap();
    journal.save(&job).unwrap();
    // A folder where the new file is to be: nothing can be written there.
    std::fs::create_dir(folder.path().join(format!("{}.new", job.id))).unwrap();
    job.attempts = 5;
    assert!(matches!(journal.save(&job), Err(Error::Job(_))));
    let (listed, _) = FolderJournal::list(folder.path());
    assert_eq!(listed[0].attempts, 0);
}
