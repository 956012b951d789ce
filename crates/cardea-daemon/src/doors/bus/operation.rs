//! Operations that take long: creating and destroying a card. The caller gets an object that shows the progress.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use cardea_terms::tpmvsc::Status;

use super::error::{BusError, Name};
use super::link::{Dictionary, Link, entry, path, value};
use super::names::OPERATION;
use cardea_host::lock;

/// What is reported before a failure, with the numbers of TPMVSCMGR_ERROR.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Report {
    PinComplexity = 1,
    ReaderCountLimit = 2,
    CardCreate = 17,
    CardDestroy = 18,
}

impl Report {
    fn word(self) -> &'static str {
        match self {
            Self::PinComplexity => "PIN_COMPLEXITY",
            Self::ReaderCountLimit => "READER_COUNT_LIMIT",
            Self::CardCreate => "CARD_CREATE",
            Self::CardDestroy => "CARD_DESTROY",
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) instance_id: String,
    pub(crate) card_id: String,
    /// Path of the card that was made.
    pub(crate) card: Option<String>,
    pub(crate) reader: String,
}

impl Outcome {
    fn dictionary(&self) -> Dictionary {
        let mut result: Dictionary = [
            entry("instance-id", self.instance_id.as_str()),
            entry("card-id", self.card_id.as_str()),
            entry("reader", self.reader.as_str()),
            entry("need-reboot", false),
        ]
        .into();
        if self.card.is_some() {
            result.extend([entry("card", path(self.card.clone()))]);
        }
        result
    }
}

/// One operation, for the client that has begun it.
#[derive(Debug)]
pub(crate) struct Operation {
    client: String,
    path: String,
    kind: &'static str,
    state: Mutex<State>,
    cancelled: AtomicBool,
}

#[derive(Debug)]
struct State {
    status: Status,
    end: Option<Result<Outcome, BusError>>,
}

impl Operation {
    pub(crate) fn new(client: &str, path: String, kind: &'static str) -> Self {
        Self {
            client: client.to_owned(),
            path,
            kind,
            state: Mutex::new(State {
                status: Status::CardInitializing,
                end: None,
            }),
            cancelled: AtomicBool::new(false),
        }
    }

    /// What is begun is undone as soon as it can be.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// An error once somebody has cancelled it.
    pub(crate) fn check(&self) -> Result<(), BusError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(BusError::new(Name::Cancelled, "cancelled"));
        }
        Ok(())
    }

    pub(crate) fn is_finished(&self) -> bool {
        lock(&self.state).end.is_some()
    }

    pub(crate) fn step(&self, link: &Link, status: Status) {
        let mut state = lock(&self.state);
        if state.status == status && status != Status::CardInitializing {
            return;
        }
        state.status = status;
        drop(state);
        self.signal(link, "Progress", &(status as u32, status.name()));
    }

    pub(crate) fn report(&self, link: &Link, report: Report) {
        self.signal(link, "ErrorReported", &(report as u32, report.word()));
    }

    pub(crate) fn finish(&self, link: &Link, end: Result<Outcome, BusError>) {
        let (ok, hresult, name, _, result) = told(&end);
        lock(&self.state).end = Some(end);
        self.signal(link, "Finished", &(ok, hresult, name, result));
    }

    fn signal<B>(&self, link: &Link, member: &str, body: &B)
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        link.signal(&self.client, &self.path, OPERATION, member, body);
    }

    pub(crate) fn properties(&self) -> Dictionary {
        let state = lock(&self.state);
        let running = Ok(Outcome::default());
        let (_, hresult, name, message, result) = told(state.end.as_ref().unwrap_or(&running));
        let result = match state.end {
            Some(_) => result,
            None => Dictionary::new(),
        };
        let result: std::collections::HashMap<String, zbus::Variant<'static>> = result
            .into_iter()
            .map(|(key, content)| (key, content.into()))
            .collect();
        let mut properties: Dictionary = [
            entry("ErrorMessage", message),
            entry("ErrorName", name),
            entry("Finished", state.end.is_some()),
            entry("Hresult", hresult),
            entry("Kind", self.kind),
            entry("Status", state.status as u32),
            entry("StatusName", state.status.name()),
        ]
        .into();
        properties.insert("Result".to_owned(), value(result));
        properties
    }
}

/// Success, HRESULT, error's name and text, result.
fn told(end: &Result<Outcome, BusError>) -> (bool, u32, String, String, Dictionary) {
    match end {
        Ok(outcome) => (true, 0, String::new(), String::new(), outcome.dictionary()),
        Err(error) => (
            false,
            error.hresult().0,
            error.name(),
            error.text().to_owned(),
            Dictionary::new(),
        ),
    }
}
