//! The service `cardea-tpmvsc` before a daemon, administrators who call it by the network, and a line between them that
//! is cut at a packet.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cardea_dcom::Guid;
use cardea_dcom::dcom::ids::{
    IID_REM_UNKNOWN, IID_REMOTE_SCM_ACTIVATOR, rem_unknown, remote_scm_activator,
};
use cardea_dcom::dcom::{
    ActivationAnswer, ActivationReply, ActivationRequest, ComVersion, DIFFERENT_MACHINE,
    InterfaceRef, Location, OrpcResult, OrpcThis, RemRefs, RemoteCreateInstance, TOWER_TCP,
};
use cardea_dcom::ndr::{Message, Secret, WideString};
use cardea_dcom::pdu::{HEADER_LENGTH, Header, SyntaxId};
use cardea_dcom::tpmvsc::{
    CLSID_REMOTE_MANAGER, CreateCard, CreateCardReply, CreateMethod, DestroyCard, DestroyCardReply,
    IID_MANAGER, manager,
};
use cardea_rpc::auth::{ClientFresh, Credentials, NtHash, NtlmInitiator};
use cardea_rpc::random;
use cardea_rpc::rpc::outgoing::Outgoing;

use crate::process::{Memory, Running};
use crate::rig::bin_dir;

/// The account of the administrators.
pub const USER: &str = "ann";

/// Its password.
pub const PASSWORD: &str = "correct horse";

/// The PIN of the cards that administrators make.
pub const CARD_PIN: &[u8] = b"12345678";

/// Their admin key, which everybody knows.
pub const ADMIN_KEY: [u8; 24] = [
    1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8,
];

/// Longest time for one call.
const LIMIT: Duration = Duration::from_secs(300);

/// The service, on a port of its own.
pub struct Service {
    process: Running,
    address: SocketAddr,
}

impl Service {
    /// Starts it before the daemon of a socket, with its files in `folder`.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    #[must_use]
    pub fn start(folder: &Path, daemon: &Path) -> Self {
        fs::create_dir_all(folder).expect("the folder is made");
        let accounts = folder.join("accounts");
        let hash = NtHash::of_password(PASSWORD).to_hex();
        fs::write(&accounts, format!("ntlm {} {USER}\n", *hash)).expect("the accounts are written");
        fs::set_permissions(&accounts, Permissions::from_mode(0o600)).expect("they are closed");
        let configuration = folder.join("tpmvsc.toml");
        let text = format!(
            "listen = ['127.0.0.1:0']\naccounts = '{}'\nsocket = '{}'\n",
            accounts.display(),
            daemon.display()
        );
        fs::write(&configuration, text).expect("the configuration is written");
        let mut command = Command::new(bin_dir().join("cardea-tpmvsc"));
        command.args(["serve", "--config"]).arg(&configuration);
        let mut process = Running::start(&mut command, &folder.join("tpmvsc.log"));
        process.wait_ready(|process| process.log().contains("listening"));
        let log = process.log();
        let (_, rest) = log.split_once("127.0.0.1:").expect("it says its port");
        let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let port: u16 = port.parse().expect("a port");
        Self {
            process,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it takes up.
    #[must_use]
    pub fn load(&self) -> Load {
        Load::of(self.process.pid())
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Ends it as a service manager would.
    ///
    /// # Panics
    ///
    /// When it does not end cleanly.
    pub fn stop(mut self) {
        assert!(self.process.terminate().success());
    }
}

/// What a process takes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Resident memory in KiB.
    pub memory: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
}

impl Load {
    /// Of a process.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let count = |what: &str| {
            let entries = fs::read_dir(format!("/proc/{pid}/{what}"));
            entries.expect("the process is there").count()
        };
        Self {
            memory: Memory::Resident.of(pid).expect("the process is there"),
            descriptors: count("fd"),
            threads: count("task"),
        }
    }

    /// Whether another state has the same descriptors and threads.
    #[must_use]
    pub fn is_as_busy_as(self, other: Self) -> bool {
        (self.descriptors, self.threads) == (other.descriptors, other.threads)
    }
}

/// An administrator who has a reference to the manager of cards.
pub struct Administrator {
    address: SocketAddr,
    connection: Outgoing,
    ipid: Guid,
    rem_unknown: Guid,
    references: u32,
    cid: Guid,
}

/// Why an administrator has no result: in words, or the result of a call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The call did not come to a result.
    Call(String),
    /// Its result.
    Result(u32),
}

impl<E: std::error::Error> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Call(error.to_string())
    }
}

impl Administrator {
    /// Signs in, activates the class, and binds the manager.
    ///
    /// # Errors
    ///
    /// Why that does not succeed.
    pub fn sign_in(address: SocketAddr) -> Result<Self, Refused> {
        let cid = Guid::from_bytes(random::bytes()?);
        let mut activator = bind(address, IID_REMOTE_SCM_ACTIVATOR)?;
        let asked = ActivationRequest {
            destination: DIFFERENT_MACHINE,
            class: CLSID_REMOTE_MANAGER,
            class_context: 0x14,
            flags: 0,
            iids: vec![IID_MANAGER],
            version: ComVersion::CURRENT,
            impersonation: 2,
            protocols: vec![TOWER_TCP],
            location: Location::default(),
            is_persistent: false,
        };
        let call = RemoteCreateInstance {
            this: OrpcThis::new(cid),
            outer: None,
            properties: Some(asked.to_pointer()),
        };
        let opnum = remote_scm_activator::REMOTE_CREATE_INSTANCE;
        let stub = activator.call(opnum, None, &call.encode())?;
        let answer = ActivationAnswer::decode_all(&stub)?;
        let properties = answer.properties.ok_or(Refused::Result(answer.result))?;
        let reply = ActivationReply::read(&properties)?;
        let pointer = reply.interfaces.first().and_then(|one| one.pointer.clone());
        let reference = pointer.ok_or(Refused::Result(answer.result))?.objref()?;
        let Some((std, _)) = reference.standard() else {
            return Err(Refused::Call("not a reference to an object".to_owned()));
        };
        Ok(Self {
            address,
            connection: bind(address, IID_MANAGER)?,
            ipid: std.ipid,
            rem_unknown: reply.rem_unknown,
            references: std.public_refs,
            cid,
        })
    }

    /// Makes a card; its instance id.
    ///
    /// # Errors
    ///
    /// The result.
    pub fn create(&mut self, name: &str) -> Result<String, Refused> {
        let order = CreateCard {
            this: OrpcThis::new(self.cid),
            method: CreateMethod::Plain,
            name: WideString::from_text(name).expect("a name"),
            admin_algorithm: 0x82,
            admin_key: Secret::new(&ADMIN_KEY),
            admin_kcv: None,
            puk: None,
            pin: Secret::new(CARD_PIN),
            pin_policy: None,
            attestation: 0,
            generate: true,
            callback: None,
        };
        let stub = self.call(manager::CREATE, &order.encode())?;
        let reply = CreateCardReply::decode(CreateMethod::Plain, &stub)?;
        let instance = reply.instance_id.and_then(|instance| instance.to_text());
        instance.ok_or(Refused::Result(reply.result))
    }

    /// Destroys a card.
    ///
    /// # Errors
    ///
    /// The result.
    pub fn destroy(&mut self, instance: &str) -> Result<(), Refused> {
        let order = DestroyCard {
            this: OrpcThis::new(self.cid),
            instance_id: WideString::from_text(instance).expect("an instance id"),
            callback: None,
        };
        let stub = self.call(manager::DESTROY, &order.encode())?;
        match DestroyCardReply::decode_all(&stub)?.result {
            0 => Ok(()),
            result => Err(Refused::Result(result)),
        }
    }

    /// Calls a method of the manager with arguments of any kind.
    ///
    /// # Errors
    ///
    /// The call fails.
    pub fn call(&mut self, opnum: u16, stub: &[u8]) -> Result<Vec<u8>, Refused> {
        self.connection.set_end(Instant::now() + LIMIT);
        let answer = self.connection.call(opnum, Some(self.ipid), stub)?;
        Ok(answer.to_vec())
    }

    /// Gives the reference back.
    ///
    /// # Errors
    ///
    /// The call fails.
    pub fn release(self) -> Result<(), Refused> {
        let refs = RemRefs {
            this: OrpcThis::new(self.cid),
            refs: vec![InterfaceRef {
                ipid: self.ipid,
                public: self.references,
                private: 0,
            }],
        };
        let mut connection = bind(self.address, IID_REM_UNKNOWN)?;
        let object = Some(self.rem_unknown);
        let stub = connection.call(rem_unknown::REM_RELEASE, object, &refs.encode())?;
        match OrpcResult::decode_all(&stub)?.result {
            0 => Ok(()),
            result => Err(Refused::Result(result)),
        }
    }
}

/// A connection with an interface, as [`USER`].
fn bind(address: SocketAddr, interface: Guid) -> Result<Outgoing, Refused> {
    let account = Credentials {
        user: USER.to_owned(),
        domain: String::new(),
        hash: NtHash::of_password(PASSWORD),
    };
    let fresh = ClientFresh {
        nonce: random::bytes()?,
        session_key: random::bytes()?,
        time: random::file_time(),
    };
    let account = NtlmInitiator::new(account, "rpcss/127.0.0.1".to_owned(), fresh);
    let until = Instant::now() + LIMIT;
    let interface = SyntaxId::interface(interface);
    Ok(Outgoing::bind(address, interface, Some(account), until)?)
}

/// Where a line is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// At the packet of this number, from 0, whichever way it goes.
    pub packet: usize,
    /// Whether that packet still arrives.
    pub arrives: bool,
}

/// A line to a service: all connections go through it, and it is cut as a whole, as when the client's process is killed.
pub struct Line {
    address: SocketAddr,
    state: Arc<Mutex<LineState>>,
}

#[derive(Default)]
struct LineState {
    packets: usize,
    cut: Option<Cut>,
    is_cut: bool,
    ends: Vec<TcpStream>,
}

impl Line {
    /// Opens one.
    ///
    /// # Panics
    ///
    /// Without a port.
    #[must_use]
    pub fn open(service: SocketAddr, cut: Option<Cut>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(LineState {
            cut,
            ..LineState::default()
        }));
        let line = Self {
            address,
            state: Arc::clone(&state),
        };
        thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                // Whoever comes now has come to end this thread, or after the end.
                if locked(&state).is_cut {
                    return;
                }
                let far = TcpStream::connect(service).expect("the service accepts");
                for stream in [&near, &far] {
                    let end = stream.try_clone().expect("a descriptor");
                    locked(&state).ends.push(end);
                }
                let clone = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
                let (back, forth) = ((clone(&far), clone(&near)), (near, far));
                for (from, to) in [back, forth] {
                    let state = Arc::clone(&state);
                    thread::spawn(move || pass(&from, &to, &state));
                }
            }
        });
        line
    }

    /// Where the client connects.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many packets have come.
    #[must_use]
    pub fn packets(&self) -> usize {
        locked(&self.state).packets
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        locked(&self.state).cut();
        drop(TcpStream::connect(self.address));
    }
}

impl LineState {
    fn cut(&mut self) {
        self.is_cut = true;
        for end in self.ends.drain(..) {
            drop(end.shutdown(Shutdown::Both));
        }
    }
}

fn locked(state: &Mutex<LineState>) -> std::sync::MutexGuard<'_, LineState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes packets on in one direction until one end closes, or the line is cut.
fn pass(mut from: &TcpStream, mut to: &TcpStream, state: &Mutex<LineState>) {
    let mut header = [0; HEADER_LENGTH];
    while from.read_exact(&mut header).is_ok() {
        let length = usize::from(Header::read(&header).fragment_length);
        let mut packet = vec![0; length];
        packet[..HEADER_LENGTH].copy_from_slice(&header);
        if from.read_exact(&mut packet[HEADER_LENGTH..]).is_err() {
            break;
        }
        let mut state = locked(state);
        let number = state.packets;
        state.packets += 1;
        let cut = state.cut.filter(|cut| cut.packet == number);
        if !state.is_cut && cut.is_none_or(|cut| cut.arrives) {
            drop(to.write_all(&packet));
        }
        if cut.is_some() {
            state.cut();
        }
    }
    drop(to.shutdown(Shutdown::Write));
}
