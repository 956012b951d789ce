//! What the manager's methods do: a card is ordered from the daemon, or its destruction.
//!
//! Everything that a caller may have wrong is found before the daemon hears of it, except what only the daemon knows.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use cardea_client::message::{
    CardRequest, CardsRequest, CreateCard, Failure, FailureKind, NewContent, Reply, Request,
    SecretBytes,
};
use cardea_client::{Client, ClientError};
use cardea_dcom::tpmvsc::{Attestation, CardParameters, ErrorReport};
use cardea_terms::PinPolicy;
use cardea_terms::invalid_card_name;
use cardea_terms::tpmvsc::{Hresult, Status};
use des::TdesEde3;
use des::cipher::{BlockCipherEncrypt, KeyInit};
use zeroize::Zeroize;

use cardea_rpc::random;

/// Somebody who hears how far an operation is, and may end it.
pub trait Listener: Send {
    /// A step begins; the HRESULT of somebody who wants no more of it.
    ///
    /// # Errors
    ///
    /// What the call is to fail with.
    fn progress(&mut self, status: Status) -> Result<(), Hresult>;

    /// Something failed.
    fn error(&mut self, error: ErrorReport);
}

/// Whom an order is for: the daemon's audit has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The account or principal that was authenticated.
    pub principal: String,
    /// Where they call from.
    pub address: IpAddr,
}

/// Orders from the daemon, one at a time.
pub struct Manager {
    socket: PathBuf,
    owner: Option<u32>,
    /// Held while the daemon works, and never while a listener is waited for: a slow one holds up its own operation alone.
    turn: Mutex<()>,
}

/// A card that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// `ROOT\SMARTCARDREADER\0000`.
    pub instance_id: String,
    /// What [`Manager::take_back`] names it by.
    pub card_id: String,
}

impl Manager {
    /// Orders at the daemon's socket; cards are for the owner, or for this service's user.
    #[must_use]
    pub fn new(socket: PathBuf, owner: Option<u32>) -> Arc<Self> {
        Arc::new(Self {
            socket,
            owner,
            turn: Mutex::new(()),
        })
    }

    /// Makes a card. One whose listener wants no more of it is taken away again.
    ///
    /// # Errors
    ///
    /// An HRESULT.
    pub fn create(
        &self,
        caller: &Caller,
        card: &CardParameters<'_>,
        listener: &mut dyn Listener,
    ) -> Result<Created, Hresult> {
        let card_id = random::bytes().map_err(|_| Hresult::FAIL)?;
        let order = self.order(card, card_id)?;
        let mut reports = Reports::new(listener);
        reports.say(Status::CardInitializing);
        if let Some(aborted) = reports.aborted {
            return Err(aborted);
        }
        let made = reports.meanwhile(|say| {
            let _turn = self.turn();
            self.ask(caller, &Request::Cards(order), &mut |step| {
                let status = Status::while_creating(step);
                if card.generate || status != Status::GenerateRunning {
                    say(status);
                }
            })
        })?;
        if let Err(Refusal::Unknown) = made {
            // Made or not: whoever is told of a failure has no card. Its id was chosen here, so it can be named.
            self.take_back(caller, &base16ct::lower::encode_string(&card_id));
        }
        let made = made
            .map_err(Refusal::hresult)
            .and_then(|reply| match reply {
                Reply::Card(card) => Ok(Created {
                    instance_id: card.summary.instance_id,
                    card_id: card.summary.card_id,
                }),
                _ => Err(Hresult::FAIL),
            });
        match made {
            Ok(created) => {
                reports.say(Status::ReaderCreating);
                reports.say(Status::CardCreated);
                match reports.aborted {
                    None => Ok(created),
                    Some(aborted) => {
                        self.take_back(caller, &created.card_id);
                        Err(aborted)
                    }
                }
            }
            Err(result) => {
                match result {
                    Hresult::PIN_POLICY => reports.fail(ErrorReport::PinComplexity),
                    Hresult::FULL => reports.fail(ErrorReport::ReaderCountLimit),
                    _ => {}
                }
                reports.fail(ErrorReport::Create);
                Err(reports.aborted.unwrap_or(result))
            }
        }
    }

    /// Destroys a card; there is no way back once the daemon has been asked.
    ///
    /// # Errors
    ///
    /// An HRESULT.
    pub fn destroy(
        &self,
        caller: &Caller,
        instance: &str,
        listener: &mut dyn Listener,
    ) -> Result<(), Hresult> {
        // Only the instance id: a name, or the beginning of another id, may mean another card.
        let (_, number) = instance
            .split_at_checked(INSTANCE.len())
            .filter(|(prefix, _)| prefix.eq_ignore_ascii_case(INSTANCE))
            .ok_or(Hresult::NOT_FOUND)?;
        if number.is_empty() || !number.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(Hresult::NOT_FOUND);
        }
        let instance = format!("{INSTANCE}{number}");
        let mut reports = Reports::new(listener);
        reports.say(Status::ReaderDestroying);
        if let Some(aborted) = reports.aborted {
            return Err(aborted);
        }
        let request = Request::card(&instance, CardRequest::Destroy { owner_auth: None });
        let done = reports.meanwhile(|say| {
            let _turn = self.turn();
            self.ask(caller, &request, &mut |step| {
                say(Status::while_destroying(step))
            })
        })?;
        match done {
            Ok(Reply::Done) => {
                reports.say(Status::CardDestroyed);
                Ok(())
            }
            Ok(_) => Err(Hresult::FAIL),
            Err(refusal) => {
                reports.fail(ErrorReport::Destroy);
                Err(refusal.hresult())
            }
        }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a card away that was made for somebody who does not get it.
    pub fn take_back(&self, caller: &Caller, card_id: &str) {
        // By its card id: the instance id may be another card's by now.
        let destroy = || Request::card(card_id, CardRequest::Destroy { owner_auth: None });
        let mut done = self.ask(caller, &destroy(), &mut |_| {});
        for _ in 0..RETRIES {
            match done {
                // A daemon that is starting again is there in a moment.
                Err(Refusal::Unknown | Refusal::Failed(Hresult::UNREACHABLE)) => {
                    thread::sleep(RETRY_TIME);
                    done = self.ask(caller, &destroy(), &mut |_| {});
                }
                _ => break,
            }
        }
        match done {
            Ok(Reply::Done) => tracing::info!(card = card_id, "card taken back"),
            Err(Refusal::Failed(Hresult::NOT_FOUND)) => {}
            _ => tracing::error!(
                card = card_id,
                "a card that nobody waits for could not be destroyed: destroy it with `cardea card destroy`"
            ),
        }
    }

    /// The order for a card: what the form of the call does not say is checked here.
    fn order(&self, card: &CardParameters<'_>, card_id: [u8; 16]) -> Result<CardsRequest, Hresult> {
        const INVALID: Hresult = Hresult::INVALID_ARGUMENT;
        if invalid_card_name(&card.name).is_some() {
            return Err(INVALID);
        }
        let is_whole = |given| {
            let value = check_value(card.admin_key);
            erase_stack();
            given == value
        };
        if !card.admin_kcv.is_none_or(is_whole) {
            return Err(INVALID);
        }
        let policy = card.pin_policy.unwrap_or(USUAL_POLICY);
        PinPolicy::parse(&policy).map_err(|_| INVALID)?;
        let attests = match card.attestation {
            Attestation::None => false,
            Attestation::AikOnly => true,
            Attestation::AikAndCertificate => return Err(Hresult::NO_AUTHORITY),
        };
        let secret = |bytes: &[u8]| SecretBytes::new(bytes.to_vec());
        let order = Box::new(CreateCard {
            owner: self.owner,
            pin_policy: Some(policy),
            card_id: Some(card_id),
            ..CreateCard::new(
                &*card.name,
                NewContent::Personalised {
                    pin: secret(card.pin),
                    puk: card.puk.map(secret),
                    admin_key: Some(secret(card.admin_key)),
                    blank: !card.generate,
                },
            )
        });
        Ok(match attests {
            true => CardsRequest::CreateAttested(order),
            false => CardsRequest::Create(order),
        })
    }

    /// A request to the daemon, on a connection of its own.
    fn ask(
        &self,
        caller: &Caller,
        request: &Request,
        step: &mut dyn FnMut(cardea_terms::Step),
    ) -> Result<Reply, Refusal> {
        let client = Client::new(&self.socket);
        let mut client = client.on_behalf_of_caller(&caller.principal, caller.address);
        match client.call_with_progress(request, ANSWER_TIME, step) {
            Ok(Reply::Failed(Failure { kind, message, .. }))
            | Err(ClientError::Refused(Failure { kind, message, .. })) => {
                if kind == FailureKind::Denied {
                    tracing::error!(
                        message,
                        "the daemon refuses this service: is its user in the administrators' group?"
                    );
                } else {
                    tracing::info!(?kind, message, "the daemon refuses");
                }
                Err(Refusal::Failed(kind.hresult()))
            }
            Ok(reply) => Ok(reply),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "no answer from the daemon"
                );
                Err(match error {
                    ClientError::Unreachable { .. } => Refusal::Failed(Hresult::UNREACHABLE),
                    ClientError::TooLong => Refusal::Failed(Hresult::INVALID_ARGUMENT),
                    _ => Refusal::Unknown,
                })
            }
        }
    }
}

/// Why an order was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// It was not.
    Failed(Hresult),
    /// The daemon has not said so.
    Unknown,
}

impl Refusal {
    fn hresult(self) -> Hresult {
        match self {
            Self::Failed(result) => result,
            Self::Unknown => Hresult::FAIL,
        }
    }
}

/// What is said to a listener: nothing twice, and nothing more to one that has ended the operation.
struct Reports<'a> {
    listener: &'a mut dyn Listener,
    last: Option<Status>,
    aborted: Option<Hresult>,
}

impl<'a> Reports<'a> {
    fn new(listener: &'a mut dyn Listener) -> Self {
        Self {
            listener,
            last: None,
            aborted: None,
        }
    }

    fn say(&mut self, status: Status) {
        if self.aborted.is_none() && self.last.replace(status) != Some(status) {
            self.aborted = self.listener.progress(status).err();
        }
    }

    /// Does some work. What is said meanwhile reaches the listener in its order and in its own time; the work does not
    /// wait for that, and this function does.
    ///
    /// # Errors
    ///
    /// The HRESULT of a machine that has no thread for it: nothing was done.
    fn meanwhile<T>(&mut self, work: impl FnOnce(&dyn Fn(Status)) -> T) -> Result<T, Hresult> {
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            let listening = thread::Builder::new()
                .name("reports".to_owned())
                .spawn_scoped(scope, || {
                    receiver.into_iter().for_each(|status| self.say(status));
                });
            if let Err(error) = listening {
                tracing::error!(%error, "cannot start a thread for reports");
                return Err(Hresult::FAIL);
            }
            // Nobody hears any more when the thread has ended, which it does not before this end of the channel.
            let done = work(&|status| {
                let _ = sender.send(status);
            });
            drop(sender);
            Ok(done)
        })
    }

    fn fail(&mut self, error: ErrorReport) {
        if self.aborted.is_none() {
            self.listener.error(error);
        }
    }
}

/// The first three bytes of zeros enciphered by the key.
fn check_value(key: &[u8; 24]) -> [u8; 3] {
    let mut block = [0; 8];
    TdesEde3::new(key.into()).encrypt_block((&mut block).into());
    let [first, second, third, ..] = block;
    [first, second, third]
}

/// Overwrites what the call before has left on the stack: the cipher cuts its key into pieces there.
#[inline(never)]
fn erase_stack() {
    [0_u8; 16 * 1024].zeroize();
}

/// 8 to 127 characters of any kind: what Microsoft's tool has without a policy.
const USUAL_POLICY: [u8; 32] = {
    let mut policy = [0; 32];
    policy[0] = 1;
    policy[4] = 8;
    policy[8] = 127;
    policy
};

/// What every instance id begins with.
const INSTANCE: &str = r"ROOT\SMARTCARDREADER\";

/// How often a daemon that is not there is asked again to take a card back, and how long after the last time.
const RETRIES: u32 = 10;
const RETRY_TIME: Duration = Duration::from_secs(1);

/// Creation takes a minute and a half on slow TPMs, and may wait for another one.
const ANSWER_TIME: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody there.
    struct Deaf;

    impl Listener for Deaf {
        fn progress(&mut self, _: Status) -> Result<(), Hresult> {
            Ok(())
        }

        fn error(&mut self, _: ErrorReport) {}
    }

    /// Refuses at a status.
    struct Refuses(Status, Vec<Status>);

    impl Listener for Refuses {
        fn progress(&mut self, status: Status) -> Result<(), Hresult> {
            self.1.push(status);
            match status == self.0 {
                true => Err(Hresult(0x8000_FFFF)),
                false => Ok(()),
            }
        }

        fn error(&mut self, error: ErrorReport) {
            panic!("{error:?} was said to somebody who has gone");
        }
    }

    const KEY: [u8; 24] = [
        1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8,
    ];

    fn ann() -> Caller {
        Caller {
            principal: "ann".to_owned(),
            address: IpAddr::from([192, 0, 2, 7]),
        }
    }

    fn card() -> CardParameters<'static> {
        CardParameters {
            name: "VSC".to_owned(),
            admin_key: &KEY,
            admin_kcv: Some([0xB0, 0x73, 0xDC]),
            puk: None,
            pin: b"12345678",
            pin_policy: None,
            attestation: Attestation::None,
            generate: true,
        }
    }

    /// There is no daemon: whatever is refused in another way than as unreachable was refused before.
    fn refused(card: CardParameters<'_>) -> Hresult {
        let manager = Manager::new("/nonexistent/socket".into(), None);
        manager.create(&ann(), &card, &mut Deaf).unwrap_err()
    }

    #[test]
    fn invalid_parameters_are_refused_before_the_daemon_is_asked() {
        assert_eq!(refused(card()), Hresult::UNREACHABLE);
        let policy = |bytes| {
            refused(CardParameters {
                pin_policy: Some(bytes),
                ..card()
            })
        };
        let mut other = USUAL_POLICY;
        assert_eq!(policy(other), Hresult::UNREACHABLE);
        other[0] = 2;
        assert_eq!(policy(other), Hresult::INVALID_ARGUMENT);
        // Nothing is allowed.
        let mut nothing = USUAL_POLICY;
        for class in [12, 16, 20, 24, 28] {
            nothing[class] = 2;
        }
        assert_eq!(policy(nothing), Hresult::INVALID_ARGUMENT);
        let named = |name: &str| {
            refused(CardParameters {
                name: name.to_owned(),
                ..card()
            })
        };
        for name in ["", "a\u{7}", "a:b", " a"] {
            assert_eq!(named(name), Hresult::INVALID_ARGUMENT, "{name:?}");
        }
        let damaged = CardParameters {
            admin_kcv: Some([0xB0, 0x73, 0xDD]),
            ..card()
        };
        assert_eq!(refused(damaged), Hresult::INVALID_ARGUMENT);
        let certified = CardParameters {
            attestation: Attestation::AikAndCertificate,
            ..card()
        };
        assert_eq!(refused(certified), Hresult::NO_AUTHORITY);
    }

    #[test]
    fn only_instance_ids_are_destroyed() {
        let manager = Manager::new("/nonexistent/socket".into(), None);
        let destroyed = |instance| manager.destroy(&ann(), instance, &mut Deaf);
        assert_eq!(
            destroyed(r"root\SmartCardReader\0000"),
            Err(Hresult::UNREACHABLE)
        );
        for other in [
            "Alice",
            "",
            r"ROOT\SMARTCARDREADER\",
            r"ROOT\SMARTCARDREADER\0x",
            "0000",
        ] {
            assert_eq!(destroyed(other), Err(Hresult::NOT_FOUND), "{other}");
        }
    }

    #[test]
    fn card_of_which_nothing_is_known_is_destroyed_by_the_id_that_was_ordered() {
        use cardea_client::ServerEnd;
        use cardea_client::message::ConnectionRequest;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let daemon = std::thread::spawn(move || {
            // Every connection says first whom it is for.
            let accept = || {
                let (stream, _) = listener.accept().unwrap();
                let mut end = ServerEnd::accept(stream, Duration::from_secs(20)).unwrap();
                let said = end.request(None).unwrap();
                let Some(Request::Connection(ConnectionRequest::OnBehalfOfCaller {
                    principal,
                    address,
                })) = said
                else {
                    panic!("not whom it is for: {said:?}")
                };
                assert_eq!((&*principal, &*address), ("ann", "192.0.2.7"));
                end.reply(&Reply::Done).unwrap();
                end
            };
            // It goes away with the order, once more with the destruction, and then stays.
            let mut first = accept();
            let Some(Request::Cards(CardsRequest::Create(order))) = first.request(None).unwrap()
            else {
                panic!("not an order")
            };
            drop(first);
            accept().request(None).unwrap();
            let mut second = accept();
            let request = second.request(None).unwrap().unwrap();
            second.reply(&Reply::Done).unwrap();
            let named = request.named_card().unwrap().as_str().to_owned();
            (
                base16ct::lower::encode_string(&order.card_id.unwrap()),
                named,
                request,
            )
        });
        let manager = Manager::new(path, None);
        assert_eq!(
            manager.create(&ann(), &card(), &mut Deaf),
            Err(Hresult::FAIL)
        );
        let (ordered, named, request) = daemon.join().unwrap();
        assert_eq!(ordered, named);
        let Request::Card { request, .. } = request else {
            panic!("not about a card")
        };
        assert!(matches!(request, CardRequest::Destroy { .. }));
    }

    /// A service whose user may not administer cards: the daemon does not take its word, and gets no order.
    #[test]
    fn nothing_is_ordered_where_the_daemon_does_not_hear_for_whom() {
        use cardea_client::ServerEnd;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let daemon = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut end = ServerEnd::accept(stream, Duration::from_secs(20)).unwrap();
            end.request(None).unwrap().unwrap();
            let failure = Failure {
                kind: FailureKind::Denied,
                message: "you are not allowed to do this".into(),
                tries_left: None,
            };
            end.reply(&Reply::Failed(failure)).unwrap();
            end.request(None)
        });
        let manager = Manager::new(path, None);
        let refused = manager.create(&ann(), &card(), &mut Deaf);
        assert_eq!(refused, Err(Hresult::ACCESS_DENIED));
        assert!(!matches!(daemon.join().unwrap(), Ok(Some(_))), "an order");
    }

    #[test]
    fn listener_that_refuses_ends_the_operation_and_hears_no_more() {
        let manager = Manager::new("/nonexistent/socket".into(), None);
        let mut listener = Refuses(Status::CardInitializing, Vec::new());
        assert_eq!(
            manager.create(&ann(), &card(), &mut listener),
            Err(Hresult(0x8000_FFFF))
        );
        assert_eq!(listener.1, [Status::CardInitializing]);
        let mut listener = Refuses(Status::ReaderDestroying, Vec::new());
        let refused = manager.destroy(&ann(), r"ROOT\SMARTCARDREADER\0000", &mut listener);
        assert_eq!(refused, Err(Hresult(0x8000_FFFF)));
    }
}
