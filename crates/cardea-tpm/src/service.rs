//! The daemon's one TPM.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cardea_card::record::{CardRecord, CounterMode, ObjectBlob, SrkRecord, TpmRecord};
#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};
use cardea_terms::Step;
use zeroize::Zeroizing;

use crate::attestation::{self, CertifiedKey, CertifiedKeys, Challenge, Evidence};
use crate::clock::TpmTime;
use crate::core::Core;
use crate::counter_object::{self, LockoutRoom};
use crate::create::{NewCard, PreparedCard, create, free_base, undefine};
use crate::endorsement::EndorsementKey;
use crate::error::{ResponseCode, TpmError};
use crate::examination::{Examination, Obstacle, OptionalCommand};
use crate::examine::examine;
use crate::hierarchy::HierarchyAuth;
use crate::inner::Inner;
use crate::intent::{IntentIndex, NV_RANGE};
use crate::operate::{Depth, arm, check};
use crate::owner::{begin_owner, end_owner};
use crate::policy::name_of;
use crate::probe::{probe, remove_leftovers, room};
use crate::queue::Queue;
use crate::sealed;
use crate::srk::makes;
use crate::status::Status;
use crate::token::CardToken;
use crate::tpm::CommandCount;
use crate::transport::Address;
use crate::trusted_record::{Anchor, CardFault, own_indices};
use crate::turns::{Lane, Length, SERVICE_USER};

/// Jobs of the service itself.
const SERVICE: Lane = Lane {
    card: 0,
    user: SERVICE_USER,
};

/// A TPM, used by one caller at a time, in turn; clones share it. Its thread ends with the last clone and token.
///
/// Where the TPM goes away, requests fail at once with `Unavailable` until it is back; then sessions are
/// begun anew and PINs must be verified again.
#[derive(Clone)]
pub struct Service {
    pub(crate) inner: Arc<Inner>,
    owner: Option<Arc<HierarchyAuth>>,
}

impl Service {
    /// Starts the thread and the software TPM where the address asks for one.
    /// A TPM that cannot be reached now is tried again with every request.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn start(address: &Address) -> Result<Self, TpmError> {
        let count = CommandCount::default();
        let core = Core::new(address.clone(), count.clone());
        let queue = Queue::start(core, rearm).map_err(|source| TpmError::Transport {
            command: "thread",
            source,
        })?;
        let inner = Inner {
            address: address.clone(),
            count,
            next: AtomicU64::new(SERVICE.card + 1),
            queue,
        };
        Ok(Self {
            inner: Arc::new(inner),
            owner: None,
        })
    }

    pub(crate) fn authorised(&self, owner: Option<HierarchyAuth>) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            owner: owner.map(Arc::new),
        }
    }

    /// Where the TPM is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.inner.address
    }

    /// Commands sent so far.
    #[must_use]
    pub fn command_count(&self) -> CommandCount {
        self.inner.count.clone()
    }

    pub(crate) fn run<R: Send + 'static>(
        &self,
        mut operation: impl FnMut(&mut Core) -> Result<R, TpmError> + Send + 'static,
    ) -> Result<R, TpmError> {
        let owner = self.owner.clone();
        self.inner
            .queue
            .run((SERVICE, Length::Short), move |core| {
                core.attempt(|core| as_owner(core, owner.as_deref(), &mut operation))
            })?
    }

    /// Does what is due while nobody waits for the TPM, like arming a session again: for a thread that has just
    /// answered a client. Without it the TPM's own thread does so a moment later.
    pub fn run_idle_work(&self) {
        self.inner.queue.run_idle_work();
    }

    /// Whether its requests make progress, however slowly.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.inner.queue.is_served()
    }

    /// Maker, version, slots, lockout.
    ///
    /// # Errors
    ///
    /// [`TpmError`] when the TPM does not answer.
    pub fn status(&self) -> Result<Status, TpmError> {
        self.run(Status::read)
    }

    /// The TPM's endorsement keys: those with a certificate; where there is none, one without.
    ///
    /// # Errors
    ///
    /// [`TpmError::AuthMissing`] if a key would have to be made and the endorsement authorisation is set;
    /// [`TpmError`].
    pub fn endorsement_keys(&self) -> Result<Vec<EndorsementKey>, TpmError> {
        self.run(EndorsementKey::read)
    }

    /// Wrong values until cards with counter objects have to wait.
    ///
    /// # Errors
    ///
    /// [`TpmError`] when the TPM does not answer.
    pub fn lockout_room(&self) -> Result<LockoutRoom, TpmError> {
        self.run(LockoutRoom::read)
    }

    /// The TPM's time.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    pub fn time(&self) -> Result<TpmTime, TpmError> {
        self.run(|core| core.link()?.tpm.read_clock())
    }

    /// Whether the TPM has room for one more card: tries it, and leaves nothing behind. `taken` are handles that
    /// others claim.
    ///
    /// # Errors
    ///
    /// [`TpmError::NvFull`] where there is none; others.
    pub fn room_for_card(&self, taken: &[u32]) -> Result<(), TpmError> {
        let taken = taken.to_vec();
        self.run(move |core| room(core, &taken))
    }

    /// Removes the throw-away indices of [`Service::check_counters`] and [`Service::room_for_card`] that a crash has
    /// left, and returns how many there were. `taken` are handles that others claim: they are not touched. Where the
    /// owner has an authorisation, it takes that if there is something to remove.
    ///
    /// # Errors
    ///
    /// [`TpmError`]; some may have been removed.
    pub fn remove_leftovers(&self, taken: &[u32]) -> Result<usize, TpmError> {
        let taken = taken.to_vec();
        self.run(move |core| remove_leftovers(core, &taken))
    }

    /// Whether the TPM keeps the count of wrong PINs, and all else that cards build on: tries it once, with an
    /// index that it removes again. `taken` are handles that others claim. Where the owner has an authorisation,
    /// it takes that.
    ///
    /// # Errors
    ///
    /// [`TpmError::CountReset`] where reading a counter sets it back, which makes existing cards unsafe too;
    /// [`TpmError::Unfit`], [`TpmError::NvFull`] and others.
    pub fn check_counters(&self, taken: &[u32]) -> Result<(), TpmError> {
        let taken = taken.to_vec();
        self.run(move |core| probe(core, &taken))
    }

    /// Finds out what cards need to know of the TPM: tries what no property tells, with an index that it removes again,
    /// and asks for the rest. What was not found out is an error.
    ///
    /// # Errors
    ///
    /// [`TpmError::Unfit`] where it does something that no TPM should; [`TpmError::NvFull`], [`TpmError::AuthMissing`]
    /// and others, where it is to be tried again.
    pub fn examine(&self, taken: &[u32]) -> Result<Examination, TpmError> {
        let taken = taken.to_vec();
        self.run(move |core| examine(core, &taken))
    }

    /// 32 bytes of the TPM's random number generator. They cross the bus in the clear: to be mixed with others.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    pub fn random(&self) -> Result<[u8; 32], TpmError> {
        self.run(|core| {
            let mut bytes = Vec::with_capacity(64);
            while bytes.len() < 32 {
                let more = core.link()?.tpm.get_random(32)?;
                if more.is_empty() {
                    break;
                }
                bytes.extend_from_slice(&more);
            }
            bytes.truncate(32);
            bytes.try_into().map_err(|_| TpmError::Protocol {
                command: "GetRandom",
                what: "no bytes were given",
            })
        })
    }

    /// The storage root key, made if there is none.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    pub fn srk(&self) -> Result<SrkRecord, TpmError> {
        self.run(Core::srk_record)
    }

    /// Makes a birth key and chooses free handles outside `taken`; nothing is in NV yet.
    /// The first call also finds out whether the TPM is fit for cards.
    ///
    /// # Errors
    ///
    /// [`TpmError::Unfit`] and others.
    pub fn prepare_card(&self, taken: &[u32], new: NewCard) -> Result<PreparedCard, TpmError> {
        let taken = taken.to_vec();
        let (asked, attests) = (new.mode, new.attests);
        let (mode, base, resets) = self.run(move |core| match asked {
            CounterMode::Nv | CounterMode::NvOwner => {
                require_ticket(core)?;
                if attests {
                    sealed::require_commands(&mut core.link()?.tpm)?;
                }
                let mode = match probe(core, &taken) {
                    Err(TpmError::CountReset) if attests => {
                        return Err(TpmError::NoEvidence(Obstacle::CountReset.to_string()));
                    }
                    // The rest of it is fit.
                    Err(TpmError::CountReset) => CounterMode::NvOwner,
                    other => other.map(|()| asked)?,
                };
                let resets = match attests {
                    true => Some(core.link()?.tpm.read_clock()?.resets),
                    false => None,
                };
                Ok((mode, free_base(core, &taken, attests)?, resets))
            }
            CounterMode::Object => {
                counter_object::require_commands(core)?;
                core.use_new_srk()?;
                Ok((asked, 0, None))
            }
        })?;
        if attests && mode != CounterMode::Nv {
            let text = "evidence is about counters in NV that everybody may read";
            return Err(TpmError::NoEvidence(text.into()));
        }
        PreparedCard::new(NewCard { mode, ..new }, base, resets)
    }

    /// Makes the card's objects. The intent must be on disk before. What fails leaves nothing in NV.
    ///
    /// # Errors
    ///
    /// [`TpmError::NvFull`] and others.
    pub fn create_card(
        &self,
        prepared: PreparedCard,
        progress: &mut dyn FnMut(Step),
    ) -> Result<TpmRecord, TpmError> {
        let card = self.next_card();
        let owner = self.owner.clone();
        let (sender, steps) = std::sync::mpsc::channel::<Step>();
        let (done, result) = std::sync::mpsc::sync_channel(1);
        let mut sender = Some(sender);
        self.inner.queue.post(
            SERVICE,
            Box::new(move |core| {
                let mut tell = |step: Step| {
                    if let Some(sender) = &sender {
                        let _ = sender.send(step);
                    }
                };
                let made = core.attempt(|core| {
                    as_owner(core, owner.as_deref(), &mut |core| {
                        create(core, card, &prepared, &mut tell)
                    })
                });
                core.remove(card);
                sender = None;
                drop(done.send(made));
            }),
        );
        for step in steps {
            progress(step);
        }
        result.recv().map_err(|_| TpmError::Stopped)?
    }

    /// Makes an attestation key for a card that has none. It is a part of the card as soon as it is in its file.
    ///
    /// # Errors
    ///
    /// [`CardFault`].
    pub fn make_attestation_key(&self, record: &CardRecord) -> Result<ObjectBlob, CardFault> {
        self.about(record, |core, _, anchor| {
            attestation::make_key(core, anchor)
        })
    }

    /// TPMT_PUBLIC of the storage root key that the card is below.
    ///
    /// # Errors
    ///
    /// [`CardFault`].
    pub fn storage_root_key(&self, record: &CardRecord) -> Result<Vec<u8>, CardFault> {
        self.about(record, |core, _, anchor| {
            attestation::storage_root_key(core, anchor)
        })
    }

    /// What the attestation key says of itself, for the answer to a challenge.
    ///
    /// # Errors
    ///
    /// [`CardFault`].
    pub fn certify_own_keys(
        &self,
        record: &CardRecord,
        qualifying: [u8; 32],
    ) -> Result<CertifiedKeys, CardFault> {
        self.about(record, move |core, card, anchor| {
            attestation::certify_own(core, card, anchor, &qualifying)
        })
    }

    /// Opens what an authority has encrypted for the card's attestation key and this TPM.
    ///
    /// # Errors
    ///
    /// [`CardFault`].
    pub fn activate(
        &self,
        record: &CardRecord,
        challenge: Challenge,
    ) -> Result<Zeroizing<Vec<u8>>, CardFault> {
        self.about(record, move |core, card, anchor| {
            attestation::activate(core, card, anchor, &challenge)
        })
    }

    /// A card's evidence with these keys, by their references.
    ///
    /// # Errors
    ///
    /// [`CardFault`].
    pub fn evidence(
        &self,
        record: &CardRecord,
        qualifying: [u8; 32],
        references: &[u8],
    ) -> Result<Evidence, CardFault> {
        let keys = references.iter();
        let keys = keys.map(|reference| attestation::key_of(record, *reference));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        self.about(record, move |core, card, anchor| {
            attestation::evidence(core, card, anchor, &qualifying, &keys)
        })
    }

    /// What the attestation key says of one key, with whatever is to be signed with it: 32 bytes on any TPM.
    ///
    /// # Errors
    ///
    /// [`CardFault`].
    pub fn certify_key(
        &self,
        record: &CardRecord,
        qualifying: Vec<u8>,
        reference: u8,
    ) -> Result<CertifiedKey, CardFault> {
        let key = attestation::key_of(record, reference)?;
        self.about(record, move |core, card, anchor| {
            attestation::certify_key(core, card, anchor, &qualifying, &key)
        })
    }

    /// Something about a card whose record is believed, without its token.
    fn about<R: Send + 'static>(
        &self,
        record: &CardRecord,
        mut work: impl FnMut(&mut Core, u64, &Anchor) -> Result<R, TpmError> + Send + 'static,
    ) -> Result<R, CardFault> {
        let anchor = Anchor::new(record)?;
        let card = self.next_card();
        let result = self.run(move |core| {
            let result = work(core, card, &anchor);
            core.remove(card);
            result
        });
        Ok(result?)
    }

    /// Undefines the card's indices: only those whose handle and policy are the record's and follow from its
    /// birth key. Absent ones are fine; one that a damaged record claims without proof is left alone.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    pub fn destroy_card(&self, record: &TpmRecord) -> Result<(), TpmError> {
        self.undo_intent(&own_indices(record))
    }

    /// Undefines what an intent names: handle and policy must both be the intent's. Absent ones are fine.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    pub fn undo_intent(&self, indices: &[IntentIndex]) -> Result<(), TpmError> {
        let indices = indices.to_vec();
        self.run(move |core| indices.iter().try_for_each(|index| undefine(core, index)))
    }

    /// NV indices in the cards' range, whoever made them.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    pub fn defined_indices(&self) -> Result<Vec<u32>, TpmError> {
        self.run(|core| {
            let mut handles = core.link()?.tpm.handles(*NV_RANGE.start())?;
            handles.retain(|handle| NV_RANGE.contains(handle));
            Ok(handles)
        })
    }

    /// Whether this TPM has a storage root key with the recorded Name at the recorded handle, or makes it from the
    /// recorded template. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    pub fn has_root(&self, srk: &SrkRecord) -> Result<bool, TpmError> {
        let srk = srk.clone();
        self.run(move |core| {
            match core.link()?.tpm.read_public(srk.handle) {
                Ok(public) if name_of(&public)[..] == srk.name[..] => return Ok(true),
                Err(error) if error.code() != Some(ResponseCode::HANDLE) => return Err(error),
                // It may have no persistent slot, or another one.
                _ => {}
            }
            core.unload_all();
            makes(&mut core.link()?.tpm, &srk.name, &srk.template)
        })
    }

    /// Whether a record can be believed and its card lives in this TPM. Spends no try and changes nothing.
    ///
    /// # Errors
    ///
    /// [`CardFault`].
    pub fn check_card(&self, record: &CardRecord) -> Result<(), CardFault> {
        self.check_at(record, Depth::Counters)
    }

    /// The same without the limits in its counters: reading those is for a TPM that does not set counts back for it.
    ///
    /// # Errors
    ///
    /// [`CardFault`].
    pub fn check_presence(&self, record: &CardRecord) -> Result<(), CardFault> {
        self.check_at(record, Depth::Presence)
    }

    fn check_at(&self, record: &CardRecord, depth: Depth) -> Result<(), CardFault> {
        #[cfg(feature = "weakened")]
        if weakened::has(Weakness::BelievedRecords) {
            return Ok(());
        }
        let anchor = Anchor::new(record)?;
        for key in &record.keys {
            if anchor.describe(key).is_none() {
                return Err(CardFault::Damaged(format!(
                    "key {:02X} is not of one of the card's templates",
                    key.reference
                )));
            }
        }
        let mut fault = None;
        let owner = self.owner.clone();
        let checked =
            self.inner
                .queue
                .run((SERVICE, Length::Short), move |core| {
                    core.attempt(|core| {
                        as_owner(core, owner.as_deref(), &mut |core| match check(
                            core, &anchor, depth,
                        ) {
                            Err(CardFault::Tpm(error)) => Err(error),
                            Err(other) => {
                                fault = Some(other);
                                Ok(())
                            }
                            Ok(()) => Ok(()),
                        })
                    })
                    .map(|()| fault.take())
                })?;
        match checked? {
            None => Ok(()),
            Some(fault) => Err(fault),
        }
    }

    /// Keys and PINs of a card that was checked.
    ///
    /// # Errors
    ///
    /// [`CardFault::Damaged`] for a record that contradicts itself.
    pub fn token(&self, record: &CardRecord) -> Result<CardToken, CardFault> {
        Ok(CardToken::new(
            Arc::clone(&self.inner),
            Lane {
                card: self.next_card(),
                user: record.owner,
            },
            Anchor::new(record)?.read_by(self.owner.clone()),
            &record.keys,
        ))
    }

    /// Sends a command as it stands, in its turn and through the same transport: for benchmarks and
    /// tests that compare with the bare TPM. Gives the response and the time between sending and receiving.
    ///
    /// It takes its turn in the queue like any request, and idle work (arming sessions again) runs around it
    /// as around any. What it loads stays loaded: an object of its own next to the engine's keys leaves
    /// these one slot less, and they give way by themselves. Handles are real ones where no resource
    /// manager is between.
    ///
    /// # Errors
    ///
    /// [`TpmError`].
    pub fn raw(&self, command: Vec<u8>) -> Result<(Vec<u8>, std::time::Duration), TpmError> {
        self.run(move |core| {
            let mut response = Vec::new();
            let begin = std::time::Instant::now();
            let sent: io::Result<()> = core.link()?.tpm.raw(&command, &mut response);
            let time = begin.elapsed();
            sent.map_err(|source| TpmError::Transport {
                command: "raw command",
                source,
            })?;
            Ok((response, time))
        })
    }

    fn next_card(&self) -> u64 {
        self.inner.next.fetch_add(1, Ordering::Relaxed)
    }
}

fn require_ticket(core: &mut Core) -> Result<(), TpmError> {
    let ticket = OptionalCommand::PolicyTicket;
    match core.link()?.tpm.has(ticket)? {
        true => Ok(()),
        false => Err(TpmError::Unfit(Obstacle::Lacks(ticket).to_string())),
    }
}

/// Runs an operation with the owner's authorisation, if there is one.
fn as_owner<R>(
    core: &mut Core,
    owner: Option<&HierarchyAuth>,
    operation: &mut impl FnMut(&mut Core) -> Result<R, TpmError>,
) -> Result<R, TpmError> {
    if let Some(owner) = owner {
        begin_owner(core, owner)?;
    }
    let result = operation(core);
    end_owner(core);
    result
}

/// Idle work: arms one session whose use emptied it, so that the next operation is a single command.
fn rearm(core: &mut Core) -> bool {
    let card = core.next_rearm();
    let armed = match card {
        Some(card) => arm(core, card).map(|_| true),
        None => core.arm_key_link(),
    };
    let error = match armed {
        Ok(found) => return found,
        Err(error) => error,
    };
    tracing::debug!(error = %error, "a session could not be armed again");
    if let Some(card) = card {
        core.runtime(card).rearm = false;
    }
    if error.breaks_connection() {
        core.disconnect();
    }
    true
}
