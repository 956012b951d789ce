//! A host over its own software TPM, and cards on it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use cardea_client::message::{CardsRequest, CreateCard, NewContent, Reply, Request, SecretBytes};
use cardea_host::{Actor, Audit, Chip, Connect, Counter, Door, Host, Roles, Visitor, load};
use cardea_store::Store;
use cardea_tpm::{Address, Service};
use tempfile::TempDir;

pub(crate) const OWNER: u32 = 4711;
pub(crate) const OTHER: u32 = 4712;
pub(crate) const PIN: &[u8] = b"123456";

/// A host and its counter.
pub(crate) struct Place {
    pub(crate) counter: Counter,
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let store = Store::open(&state).unwrap();
        let audit = Audit::open(&state).unwrap();
        let roles = Roles {
            admin_group: "no-such-group".into(),
            pcscd_uid: 2,
            pcscd_user: None,
        };
        let connect: Connect = Box::new(|| {
            let service = Service::start(&Address::Simulator(None))?;
            Ok(Arc::new(service) as Arc<dyn Chip>)
        });
        let host = Host::new(roles, store, audit, connect, 2, false, "random".into());
        load(&host).unwrap();
        Self {
            counter: Counter::new(Arc::new(host)),
            folder,
        }
    }

    pub(crate) fn visitor(&self, uid: u32) -> Visitor {
        let actor = Actor::of_process(uid, std::process::id());
        Visitor::new(self.counter.caller(uid), actor, Door::Socket)
    }

    /// Makes a card for the owner, as root, and returns its id.
    pub(crate) fn card(&self, name: &str) -> String {
        self.create(name, None)
    }

    /// The same, with its file in a folder.
    pub(crate) fn card_on_drive(&self, name: &str, folder: OwnedFd) -> String {
        self.create(name, Some(folder))
    }

    fn create(&self, name: &str, folder: Option<OwnedFd>) -> String {
        let mut order = CreateCard::new(name, NewContent::with_pin(SecretBytes::new(PIN.to_vec())));
        order.owner = Some(OWNER);
        order.drive = folder.is_some();
        let create = Request::Cards(CardsRequest::Create(Box::new(order)));
        let root = &mut self.visitor(0);
        match self.counter.serve(root, create, folder, &mut |_| {}) {
            Ok(Reply::Card(card)) => card.summary.card_id,
            other => panic!("{other:?}"),
        }
    }

    /// Its state folder.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The names of the events in the audit.
    pub(crate) fn events(&self) -> Vec<String> {
        let path = self.state().join("audit.jsonl");
        let text = std::fs::read_to_string(path).unwrap();
        let name = |line: &str| {
            let (_, rest) = line.split_once("\"event\":\"")?;
            rest.split('"').next().map(str::to_owned)
        };
        text.lines().filter_map(name).collect()
    }
}
