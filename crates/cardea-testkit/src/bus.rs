//! Debian's dbus-daemon and polkitd in a mount namespace of their own, with the files that are installed, and
//! clients of any user.

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::future::poll_fn;
use std::io::Write;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::time::{Duration, Instant};

use futures_core::Stream;
use rustix::thread::{Uid, set_thread_res_uid};
use serde::Serialize;
use zbus::connection::Builder;
use zbus::wire::DynamicDeserialize;
use zbus::{Connection, DynamicType, Message, MessageStream, OwnedVariant, Variant};

use crate::process::{Running, wait_for};

/// The service's name, its root path, its prefix of interfaces.
pub const SERVICE: &str = "org.cardea.VirtualSmartCard1";
/// Path of the manager.
pub const ROOT: &str = "/org/cardea/VirtualSmartCard1";

/// The longest that a call may take, prompts included.
const LIMIT: Duration = Duration::from_secs(30);

/// Messages that a test has not looked at.
const MAX_QUEUED: NonZeroUsize = NonZeroUsize::new(1 << 16).unwrap();

/// Makes the namespace, then becomes dbus-daemon. Arguments: folder with our copies.
const SCRIPT: &str = r#"
set -e
mkdir -p /run/dbus /usr/share/dbus-1/system-services /usr/share/dbus-1/system.d /usr/share/polkit-1/actions /etc/polkit-1/rules.d
mount --bind "$1/run" /run/dbus
mount --bind "$1/system.d" /usr/share/dbus-1/system.d
mount --bind "$1/actions" /usr/share/polkit-1/actions
mount --bind "$1/rules.d" /etc/polkit-1/rules.d
# Nobody starts polkitd but the test.
mount -t tmpfs cardea /usr/share/dbus-1/system-services
exec dbus-daemon --system --nofork --nopidfile --nosyslog
"#;

/// A system bus with polkit.
pub struct SystemBus {
    folder: PathBuf,
    polkit: Option<Running>,
    bus: Option<Running>,
}

impl SystemBus {
    /// Starts both; `rules` is what the machine's administrator lets whom do (JavaScript).
    ///
    /// # Panics
    ///
    /// When they do not come up (it needs root).
    #[must_use]
    pub fn start(folder: &Path, rules: &str) -> Self {
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging");
        let copies = [
            (
                "system.d",
                "/usr/share/dbus-1/system.d",
                "org.cardea.VirtualSmartCard1.conf",
            ),
            (
                "actions",
                "/usr/share/polkit-1/actions",
                "org.cardea.virtualsmartcard.policy",
            ),
            ("rules.d", "/nonexistent", ""),
        ];
        for (name, installed, ours) in copies {
            let target = folder.join(name);
            fs::create_dir_all(&target).expect("the folder is made");
            for entry in fs::read_dir(installed).into_iter().flatten().flatten() {
                let to = target.join(entry.file_name());
                fs::copy(entry.path(), to).expect("the file is copied");
            }
            if !ours.is_empty() {
                fs::copy(packaging.join(ours), target.join(ours)).expect("our file is copied");
            }
        }
        fs::create_dir_all(folder.join("run")).expect("the folder is made");
        let own = folder.join("rules.d/50-test.rules");
        fs::write(own, rules).expect("the rule is written");
        // polkitd and dbus-daemon run as users of their own.
        for path in [
            folder.to_owned(),
            folder.join("rules.d"),
            folder.join("run"),
        ] {
            fs::set_permissions(path, Permissions::from_mode(0o755)).expect("open to all");
        }
        let mut bus = Self {
            folder: folder.to_owned(),
            polkit: None,
            bus: None,
        };
        bus.restart();
        bus
    }

    /// Waits until the service is on it.
    ///
    /// # Panics
    ///
    /// When it does not come.
    pub fn await_service(&self) {
        let client = BusClient::connect(&self.address(), 0);
        wait_for("the service is on the bus", || client.has_owner(SERVICE));
    }

    /// Ends both, if they run, and starts them again.
    ///
    /// # Panics
    ///
    /// When they do not come up.
    pub fn restart(&mut self) {
        self.stop();
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                SCRIPT,
                "sh",
            ])
            .arg(&self.folder);
        let mut process = Running::start(&mut command, &self.folder.join("dbus.log"));
        let socket = self.socket();
        let _ = fs::remove_file(&socket);
        process.wait_ready(|process| {
            let program = fs::read_link(format!("/proc/{}/exe", process.pid()));
            program.is_ok_and(|program| program.ends_with("dbus-daemon"))
                && UnixStream::connect(&socket).is_ok()
        });
        self.bus = Some(process);
        self.start_polkit();
    }

    /// Starts polkitd.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub fn start_polkit(&mut self) {
        let pid = self.pid().to_string();
        let mut command = Command::new("nsenter");
        command
            .args([
                "--mount",
                "--target",
                &pid,
                "/usr/lib/polkit-1/polkitd",
                "--no-debug",
            ])
            .env(
                "DBUS_SYSTEM_BUS_ADDRESS",
                "unix:path=/run/dbus/system_bus_socket",
            );
        self.polkit = Some(Running::start(
            &mut command,
            &self.folder.join("polkit.log"),
        ));
        let client = BusClient::connect(&self.address(), 0);
        wait_for("polkitd is on the bus", || {
            client.has_owner("org.freedesktop.PolicyKit1")
        });
    }

    /// Ends polkitd.
    pub fn stop_polkit(&mut self) {
        if let Some(mut polkit) = self.polkit.take() {
            polkit.kill();
        }
    }

    /// Ends both.
    pub fn stop(&mut self) {
        self.stop_polkit();
        if let Some(mut bus) = self.bus.take() {
            bus.kill();
        }
    }

    fn pid(&self) -> u32 {
        self.bus.as_ref().map_or(0, Running::pid)
    }

    /// For `DBUS_SYSTEM_BUS_ADDRESS`; the same after a restart.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix:path={}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("run/system_bus_socket")
    }
}

/// `a{sv}`.
pub type Dictionary = HashMap<String, OwnedVariant>;

/// An error's name without our prefix, and its text.
pub type Refusal = (String, String);

/// A client of the bus.
pub struct BusClient {
    /// Its connection.
    pub connection: Connection,
    stream: MessageStream,
}

impl BusClient {
    /// Connects as a user, whoever the test runs as.
    ///
    /// # Panics
    ///
    /// When that does not work.
    #[must_use]
    pub fn connect(address: &str, uid: u32) -> Self {
        let path = address
            .strip_prefix("unix:path=")
            .expect("a path")
            .to_owned();
        // The kernel takes the credentials of the thread that connects.
        let stream = std::thread::spawn(move || {
            let own = Uid::from_raw(uid);
            set_thread_res_uid(own, own, own).expect("the thread becomes the user");
            UnixStream::connect(path).expect("the bus answers")
        });
        let stream = stream.join().expect("connected");
        // The stream is read when a test looks for something; until then it must not hold up answers.
        let builder = Builder::unix_stream(stream)
            .user_id(uid)
            .max_queued(MAX_QUEUED);
        let connection = zruntime::block_on(builder.build()).expect("the bus lets us in");
        let stream = MessageStream::from(&connection);
        Self { connection, stream }
    }

    /// Its unique name.
    ///
    /// # Panics
    ///
    /// When the bus gave none.
    #[must_use]
    pub fn name(&self) -> String {
        self.connection.unique_name().expect("a name").to_string()
    }

    /// Calls a method of our service.
    ///
    /// # Errors
    ///
    /// The error's name, ours without prefix, and its text.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub fn call<B>(&self, path: &str, member: &str, body: &B) -> Result<Message, Refusal>
    where
        B: Serialize + DynamicType + Sync,
    {
        let (interface, member) = match member.rsplit_once('.') {
            Some((interface, member)) if interface.contains('.') => (interface.to_owned(), member),
            Some((interface, member)) => (format!("{SERVICE}.{interface}"), member),
            None => panic!("{member} has no interface"),
        };
        self.call_to(SERVICE, path, &interface, member, body)
    }

    /// Calls a method of any service.
    ///
    /// # Errors
    ///
    /// The error's name, ours without prefix, and its text.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub fn call_to<B>(
        &self,
        service: &str,
        path: &str,
        interface: &str,
        member: &str,
        body: &B,
    ) -> Result<Message, Refusal>
    where
        B: Serialize + DynamicType + Sync,
    {
        let call = self
            .connection
            .call_method(Some(service), path, Some(interface), member, body);
        let runtime = zruntime::SharedRuntime::current().expect("a runtime");
        let answer = zruntime::block_on(runtime.timeout(LIMIT, call));
        answer
            .expect("an answer in time")
            .map_err(|error| match error {
                zbus::Error::MethodError(name, text, _) => {
                    let name = name.to_string();
                    let ours = name.strip_prefix("org.cardea.VirtualSmartCard1.Error.");
                    (ours.unwrap_or(&name).to_owned(), text.unwrap_or_default())
                }
                zbus::Error::FDO(error) => {
                    let name = zbus::DBusError::name(&*error).to_string();
                    let text = zbus::DBusError::description(&*error).unwrap_or_default();
                    (name, text.to_owned())
                }
                error => panic!("{error}"),
            })
    }

    /// Calls a method and takes its answer apart.
    ///
    /// # Errors
    ///
    /// As [`BusClient::call`].
    ///
    /// # Panics
    ///
    /// When the answer is of another type.
    pub fn get<T, B>(&self, path: &str, member: &str, body: &B) -> Result<T, Refusal>
    where
        B: Serialize + DynamicType + Sync,
        T: for<'a> DynamicDeserialize<'a>,
    {
        let answer = self.call(path, member, body)?;
        Ok(answer
            .body()
            .deserialize()
            .expect("the type that is documented"))
    }

    /// A property.
    ///
    /// # Errors
    ///
    /// As [`BusClient::call`].
    pub fn property(
        &self,
        path: &str,
        interface: &str,
        name: &str,
    ) -> Result<OwnedVariant, Refusal> {
        let interface = format!("{SERVICE}.{interface}");
        self.get(
            path,
            "org.freedesktop.DBus.Properties.Get",
            &(interface, name),
        )
    }

    /// All properties of an interface.
    ///
    /// # Errors
    ///
    /// As [`BusClient::call`].
    pub fn properties(&self, path: &str, interface: &str) -> Result<Dictionary, Refusal> {
        let interface = format!("{SERVICE}.{interface}");
        self.get(path, "org.freedesktop.DBus.Properties.GetAll", &interface)
    }

    /// A property that is a number.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[must_use]
    pub fn number(&self, path: &str, interface: &str, name: &str) -> u32 {
        let value = self.property(path, interface, name).expect("the property");
        value.try_into().expect("a number")
    }

    /// A property that is text.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[must_use]
    pub fn text(&self, path: &str, interface: &str, name: &str) -> String {
        let value = self.property(path, interface, name).expect("the property");
        value.try_into().expect("text")
    }

    /// The next message that fits.
    ///
    /// # Panics
    ///
    /// When none comes in time.
    pub fn next(&mut self, what: &str, mut fits: impl FnMut(&Message) -> bool) -> Message {
        let end = Instant::now() + LIMIT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let stream = &mut self.stream;
            let next = poll_fn(|context| Pin::new(&mut *stream).poll_next(context));
            let runtime = zruntime::SharedRuntime::current().expect("a runtime");
            let message = zruntime::block_on(runtime.timeout(left, next));
            let message = message.unwrap_or_else(|_| panic!("{what} did not come"));
            let message = message.expect("the bus is there").expect("a message");
            if fits(&message) {
                return message;
            }
        }
    }

    /// The next signal of that name from our service.
    ///
    /// # Panics
    ///
    /// When none comes in time.
    pub fn signal(&mut self, member: &str) -> Message {
        self.next(member, |message| {
            let header = message.header();
            message.message_type() == zbus::message::Type::Signal
                && header.member().is_some_and(|name| name.as_str() == member)
                && header
                    .sender()
                    .is_some_and(|sender| sender.as_str() != "org.freedesktop.DBus")
        })
    }

    /// Waits for the end of an operation: whether it went well, the error's name, the result.
    ///
    /// # Panics
    ///
    /// When it does not end.
    #[must_use]
    pub fn finished(&self, operation: &str) -> (bool, String, Dictionary) {
        let mut properties = Dictionary::new();
        wait_for("the operation ends", || {
            properties = self
                .properties(operation, "Operation")
                .expect("the operation is there");
            bool::try_from(&properties["Finished"]) == Ok(true)
        });
        let name = String::try_from(properties.remove("ErrorName").expect("a name")).expect("text");
        let result = properties.remove("Result").expect("a result");
        let result = Dictionary::try_from(result).expect("a dictionary");
        let name = name
            .strip_prefix("org.cardea.VirtualSmartCard1.Error.")
            .unwrap_or(&name);
        (name.is_empty(), name.to_owned(), result)
    }

    /// Whether anybody has this name.
    ///
    /// # Panics
    ///
    /// When the bus does not say.
    #[must_use]
    pub fn has_owner(&self, name: &str) -> bool {
        let bus = "org.freedesktop.DBus";
        let answer = self.call_to(bus, "/org/freedesktop/DBus", bus, "NameHasOwner", &name);
        answer
            .expect("the bus answers")
            .body()
            .deserialize()
            .expect("yes or no")
    }
}

/// A pipe with this secret.
///
/// # Panics
///
/// When there are no pipes left.
#[must_use]
pub fn secret(bytes: &[u8]) -> zbus::OwnedFd {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(bytes).expect("a pipe takes a secret");
    OwnedFd::from(reader).into()
}

/// An entry of options.
///
/// # Panics
///
/// When the value cannot be owned.
#[must_use]
pub fn option<'a>(key: &str, value: impl Into<Variant<'a>>) -> (String, OwnedVariant) {
    let value: Variant<'a> = value.into();
    (key.to_owned(), value.try_into_owned().expect("a value"))
}

/// A secret among options.
#[must_use]
pub fn secret_option(key: &str, bytes: &[u8]) -> (String, OwnedVariant) {
    option(key, zbus::Fd::from(OwnedFd::from(secret(bytes))))
}
