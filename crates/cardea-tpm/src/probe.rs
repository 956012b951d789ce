//! What a TPM must be shown to do before a card is trusted to it.

#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};
use zeroize::Zeroizing;

use crate::auth::AuthValue;
use crate::core::Core;
use crate::create::{full, undefine, undefine_if};
use crate::error::{ResponseCode, TpmError};
use crate::intent::{IntentIndex, NV_RANGE};
use crate::policy::{NV_DEFINED, NV_WRITTEN, ZERO, cc, command_code, name_of, nv_public};
use crate::random::random;
use crate::session::Session;

/// Whether this TPM keeps the promises that cards build on (once per service). [`TpmError::CountReset`] is the last of
/// all that is looked for: such a TPM keeps every other one.
///
/// A throw-away index shows what no property tells: that failures block, that a right value gives a ticket, that
/// nobody can bind a session to the index and guess without being counted, and that nothing but the right value
/// sets the count back. Reference code of before August 2019 takes every authorisation of such an index for a
/// right value, also a policy that does not ask for it (TCG errata 1.9 for revision 1.38, §2.34): there, whoever
/// reads a counter has guesses without end.
pub(crate) fn probe(core: &mut Core, taken: &[u32]) -> Result<(), TpmError> {
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::OrdinaryIndices) {
        core.use_new_srk()?;
        return Ok(());
    }
    if core.probed {
        return Ok(());
    }
    for (command, name) in [
        (cc::POLICY_AUTHORIZE, "PolicyAuthorize"),
        (cc::NV_CHANGE_AUTH, "NV_ChangeAuth"),
    ] {
        if !core.link()?.tpm.implements(command)? {
            return Err(TpmError::Unfit(format!("it has no {name}")));
        }
    }
    core.use_new_srk()?;
    core.channel()?;
    let handle = probe_handle(core, taken)?;
    let mut auth = AuthValue::zeroed();
    random(&mut *auth);
    let probe = Probe {
        handle,
        name: name_of(&probe_public(handle, PROBE_WRITTEN)),
        auth,
    };
    let result = probe.make(core).and_then(|()| probe.ask(core));
    remove_left(core, handle)?;
    match &result {
        Ok(()) => core.resets_counts = false,
        Err(TpmError::CountReset) => core.resets_counts = true,
        Err(_) => {}
    }
    result?;
    core.probed = true;
    Ok(())
}

/// Whether one more card has room, with administrator and PUK: as many indices as it takes are defined, and
/// undefined again. No property tells it ([`Status::card_indices`](crate::Status::card_indices)).
pub(crate) fn room(core: &mut Core, taken: &[u32]) -> Result<(), TpmError> {
    core.use_new_srk()?;
    core.channel()?;
    let mut taken = taken.to_vec();
    let mut defined = Vec::new();
    let result = (0..INDICES_OF_A_CARD).try_for_each(|_| {
        let handle = probe_handle(core, &taken)?;
        let mut auth = AuthValue::zeroed();
        random(&mut *auth);
        let (tpm, _, channel) = core.link()?.parts()?;
        let public = nv_public(handle, NV_DEFINED, &room_intent(handle).policy);
        tpm.nv_define(channel, &auth[..], &public).map_err(full)?;
        taken.push(handle);
        defined.push(handle);
        Ok(())
    });
    for handle in defined {
        undefine(core, &room_intent(handle))?;
    }
    result
}

/// Undefines every throw-away index that a crash has left, and returns how many there were. Nothing is touched that is
/// `taken`: handles of cards, and of creations and destructions that were interrupted.
pub(crate) fn remove_leftovers(core: &mut Core, taken: &[u32]) -> Result<usize, TpmError> {
    let mut removed = 0;
    let handles = core.link()?.tpm.handles(*NV_RANGE.start())?;
    for handle in handles {
        if NV_RANGE.contains(&handle) && !taken.contains(&handle) && remove_left(core, handle)? {
            removed += 1;
        }
    }
    Ok(removed)
}

/// PIN, administrator, PUK.
const INDICES_OF_A_CARD: usize = 3;

/// Attributes of the probe's index: a card's, and the owner may write and read it. Reading by the owner is not
/// an authorisation by the index's value or policy, and changes no count.
const PROBE_DEFINED: u32 = NV_DEFINED | 0x0002_0002;
const PROBE_WRITTEN: u32 = NV_WRITTEN | 0x0002_0002;

/// Tries of the probe's index.
const LIMIT: u32 = 2;

/// The probe's policy is not that of a card and always the same, so that an index that a crash has left behind is known
/// again and removed. It lets anybody read the counter, as a card's policies do.
fn probe_public(handle: u32, attributes: u32) -> Vec<u8> {
    nv_public(handle, attributes, &command_code(&ZERO, cc::NV_READ))
}

/// A free handle for a throw-away index, from the end of the range, which no triple reaches.
fn probe_handle(core: &mut Core, taken: &[u32]) -> Result<u32, TpmError> {
    for handle in NV_RANGE.rev().filter(|handle| !taken.contains(handle)) {
        remove_left(core, handle)?;
        match core.link()?.tpm.nv_read_public(handle) {
            Err(error) if error.code() == Some(ResponseCode::HANDLE) => return Ok(handle),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Err(TpmError::Unfit("no index handle is free".into()))
}

/// Undefines a throw-away index, of this run or left by a crash; another or none is left alone. Whether there was one.
fn remove_left(core: &mut Core, handle: u32) -> Result<bool, TpmError> {
    undefine_if(core, handle, |public| {
        let room = room_intent(handle).policy;
        let ours = [
            probe_public(handle, PROBE_DEFINED),
            probe_public(handle, PROBE_WRITTEN),
            nv_public(handle, NV_DEFINED, &room),
            nv_public(handle, NV_WRITTEN, &room),
        ];
        ours.iter().any(|ours| ours == public)
    })
}

/// What [`room`] defines.
fn room_intent(handle: u32) -> IntentIndex {
    let policy = command_code(&ZERO, cc::NV_WRITE);
    IntentIndex { handle, policy }
}

/// No card has this number.
const PROBE: u64 = u64::MAX - 1;

/// The throw-away index.
struct Probe {
    handle: u32,
    /// Once written.
    name: [u8; 34],
    auth: AuthValue,
}

impl Probe {
    fn make(&self, core: &mut Core) -> Result<(), TpmError> {
        let defined = probe_public(self.handle, PROBE_DEFINED);
        let (tpm, _, channel) = core.link()?.parts()?;
        tpm.nv_define(channel, &self.auth[..], &defined)
            .map_err(full)?;
        let mut data = [0; 8];
        let (_, limit) = data.split_at_mut(4);
        limit.copy_from_slice(&LIMIT.to_be_bytes());
        tpm.nv_write_as_owner(self.handle, &name_of(&defined), channel, &data)
    }

    fn ask(&self, core: &mut Core) -> Result<(), TpmError> {
        self.in_session(core, Self::first_wrong)?;
        let resets = self.reading_resets(core)?;
        if resets {
            // What is left of it is that failures block, which the owner's reading does not change.
            self.in_session(core, Self::counted_wrong)?;
        }
        self.in_session(core, Self::second_wrong)?;
        if self.count(core)? != (LIMIT, LIMIT) || !self.in_session(core, Self::refuses_right)? {
            return Err(TpmError::Unfit(
                "reading by the owner changes a count".into(),
            ));
        }
        let opens = !resets && self.reading_opens(core)?;
        self.bind(core)?;
        match resets || opens {
            true => Err(TpmError::CountReset),
            false => Ok(()),
        }
    }

    /// Whether a policy's reading changes the count of one failure.
    fn reading_resets(&self, core: &mut Core) -> Result<bool, TpmError> {
        if !read_is_asked() {
            return Ok(false);
        }
        self.read_by_policy(core)?;
        Ok(self.count(core)? != (1, LIMIT))
    }

    /// Whether a policy's reading opens an index that is blocked.
    fn reading_opens(&self, core: &mut Core) -> Result<bool, TpmError> {
        if !read_is_asked() {
            return Ok(false);
        }
        self.read_by_policy(core)?;
        Ok(!self.in_session(core, Self::refuses_right)?)
    }

    /// In a session that is gone afterwards: with the owner's and the channel there is room for one.
    fn in_session<R>(
        &self,
        core: &mut Core,
        work: impl FnOnce(&Self, &mut Core, &Session) -> Result<R, TpmError>,
    ) -> Result<R, TpmError> {
        let session = core.policy_session(PROBE)?;
        let result = work(self, core, &session);
        core.flush(session.handle);
        result
    }

    fn first_wrong(&self, core: &mut Core, session: &Session) -> Result<(), TpmError> {
        let (timeout, ticket) = self.secret(core, session, &self.auth[..])?;
        if timeout.is_empty() || ticket.len() < 10 {
            return Err(TpmError::Unfit("a PIN index gives no ticket".into()));
        }
        self.counted_wrong(core, session)
    }

    fn counted_wrong(&self, core: &mut Core, session: &Session) -> Result<(), TpmError> {
        self.wrong(core, session)?;
        if self.count(core)? != (1, LIMIT) {
            return Err(TpmError::Unfit("a wrong PIN is not counted".into()));
        }
        Ok(())
    }

    fn second_wrong(&self, core: &mut Core, session: &Session) -> Result<(), TpmError> {
        self.wrong(core, session)?;
        if !self.refuses_right(core, session)? {
            return Err(TpmError::Unfit("wrong PINs do not block".into()));
        }
        Ok(())
    }

    fn refuses_right(&self, core: &mut Core, session: &Session) -> Result<bool, TpmError> {
        match self.secret(core, session, &self.auth[..]) {
            Err(error) if error.code() == Some(ResponseCode::AUTH_UNAVAILABLE) => Ok(true),
            Err(error) if error.code().is_none() => Err(error),
            _ => Ok(false),
        }
    }

    fn bind(&self, core: &mut Core) -> Result<(), TpmError> {
        let started = core
            .link()?
            .tpm
            .start_bound_session(self.handle, &self.name);
        match started {
            Ok(session) => {
                core.flush(session);
                Err(TpmError::Unfit(
                    "a session can be bound to a PIN index".into(),
                ))
            }
            Err(error) if error.code().is_some() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn secret(
        &self,
        core: &mut Core,
        session: &Session,
        value: &[u8],
    ) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), TpmError> {
        let (tpm, _, channel) = core.link()?.parts()?;
        tpm.policy_secret(
            self.handle,
            &self.name,
            channel,
            value,
            session,
            b"probe",
            -3600,
        )
    }

    fn wrong(&self, core: &mut Core, session: &Session) -> Result<(), TpmError> {
        match self.secret(core, session, &[1]) {
            Err(error) if error.code() == Some(ResponseCode::BAD_AUTH) => Ok(()),
            Err(error) if error.code().is_none() => Err(error),
            _ => Err(TpmError::Unfit("a wrong PIN is not refused as such".into())),
        }
    }

    /// Count and limit.
    fn count(&self, core: &mut Core) -> Result<(u32, u32), TpmError> {
        let (tpm, _, channel) = core.link()?.parts()?;
        tpm.nv_read_as_owner(self.handle, &self.name, channel)
    }

    /// As anybody may.
    fn read_by_policy(&self, core: &mut Core) -> Result<(), TpmError> {
        let mut session = core.open_policy_session(PROBE)?;
        let (tpm, _, channel) = core.link()?.parts()?;
        let read = tpm
            .policy_command_code(&session, cc::NV_READ)
            .and_then(|()| tpm.nv_read(self.handle, &self.name, &mut session, Some(channel)));
        if read.is_err() {
            core.flush(session.handle);
        }
        read.map(drop)
    }
}

/// Whether reading may change the count is asked of the TPM.
fn read_is_asked() -> bool {
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::UncheckedCounters) {
        return false;
    }
    true
}
