//! What a TPM must be shown to do before a card is trusted to it.

#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};

use crate::anchor::NV_RANGE;
use crate::auth::AuthValue;
use crate::core::Core;
use crate::create::{IntentIndex, full, undefine};
use crate::error::{ResponseCode, TpmError};
use crate::policy::{NV_DEFINED, NV_WRITTEN, ZERO, cc, command_code, name_of, nv_public};
use crate::tpm::random;

/// Whether this TPM keeps the promises that cards build on (once per service).
///
/// A throw-away index shows what no property tells: that failures block, that a right value gives a ticket,
/// and that nobody can bind a session to the index and guess without being counted.
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
        (crate::commands::code::POLICY_TICKET, "PolicyTicket"),
        (cc::POLICY_AUTHORIZE, "PolicyAuthorize"),
        (cc::NV_CHANGE_AUTH, "NV_ChangeAuth"),
    ] {
        if !core.link()?.tpm.implements(command)? {
            return Err(TpmError::Unfit(format!("it has no {name}")));
        }
    }
    core.use_new_srk()?;
    core.channel()?;
    let policy = command_code(&ZERO, cc::NV_WRITE);
    let handle = probe_handle(core, taken, &policy)?;
    let mut auth = AuthValue::zeroed();
    random(&mut *auth);
    let result = make_probe(core, handle, &policy, &auth)
        .and_then(|name| probe_index(core, handle, &name, &auth));
    undefine(core, &IntentIndex { handle, policy })?;
    result?;
    core.probed = true;
    Ok(())
}

/// Whether one more card has room, with administrator and PUK: as many indices as it takes are defined, and
/// undefined again. No property tells it ([`Status::card_indices`](crate::Status::card_indices)).
pub(crate) fn room(core: &mut Core, taken: &[u32]) -> Result<(), TpmError> {
    core.use_new_srk()?;
    core.channel()?;
    let policy = command_code(&ZERO, cc::NV_WRITE);
    let mut taken = taken.to_vec();
    let mut defined = Vec::new();
    let result = (0..INDICES_OF_A_CARD).try_for_each(|_| {
        let handle = probe_handle(core, &taken, &policy)?;
        let mut auth = AuthValue::zeroed();
        random(&mut *auth);
        let (tpm, _, channel) = core.link()?.parts()?;
        let public = nv_public(handle, NV_DEFINED, &policy);
        tpm.nv_define(channel, &auth, &public).map_err(full)?;
        taken.push(handle);
        defined.push(handle);
        Ok(())
    });
    for handle in defined {
        undefine(core, &IntentIndex { handle, policy })?;
    }
    result
}

/// PIN, administrator, PUK.
const INDICES_OF_A_CARD: usize = 3;

/// A free handle for the throw-away index, from the end of the range, which no triple reaches. Its policy is
/// no card's and always the same, so that one that a crash has left behind is known again and removed.
fn probe_handle(core: &mut Core, taken: &[u32], policy: &[u8; 32]) -> Result<u32, TpmError> {
    for handle in NV_RANGE.rev().filter(|handle| !taken.contains(handle)) {
        let policy = *policy;
        undefine(core, &IntentIndex { handle, policy })?;
        match core.link()?.tpm.nv_read_public(handle) {
            Err(error) if error.code() == Some(ResponseCode::HANDLE) => return Ok(handle),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Err(TpmError::Unfit("no index handle is free".into()))
}

/// An index as a card's, with two tries; its policy lets anybody write it.
fn make_probe(
    core: &mut Core,
    handle: u32,
    policy: &[u8; 32],
    auth: &AuthValue,
) -> Result<[u8; 34], TpmError> {
    let defined = nv_public(handle, NV_DEFINED, policy);
    let (tpm, _, channel) = core.link()?.parts()?;
    tpm.nv_define(channel, auth, &defined).map_err(full)?;
    let mut session = core.policy_session(PROBE)?;
    let tpm = &mut core.link()?.tpm;
    let written = tpm
        .policy_command_code(&session, cc::NV_WRITE)
        .and_then(|()| {
            let name = name_of(&defined);
            tpm.nv_write(handle, &name, &mut session, 0, &[0, 0, 0, 0, 0, 0, 0, 2])
        });
    if written.is_err() {
        core.flush(session.handle);
    }
    written?;
    Ok(name_of(&nv_public(handle, NV_WRITTEN, policy)))
}

/// No card has this number.
const PROBE: u64 = u64::MAX - 1;

fn probe_index(
    core: &mut Core,
    handle: u32,
    name: &[u8; 34],
    auth: &AuthValue,
) -> Result<(), TpmError> {
    let session = core.policy_session(PROBE)?;
    let result = (|| {
        let (tpm, _, channel) = core.link()?.parts()?;
        let mut ask = |value: &[u8]| {
            tpm.policy_secret(handle, name, channel, value, &session, b"probe", -3600)
        };
        let (timeout, ticket) = ask(&auth[..])?;
        if timeout.is_empty() || ticket.len() < 10 {
            return Err(TpmError::Unfit("a PIN index gives no ticket".into()));
        }
        for _ in 0..2 {
            if !matches!(ask(&[1]), Err(error) if error.code() == Some(ResponseCode::BAD_AUTH)) {
                return Err(TpmError::Unfit("a wrong PIN is not refused as such".into()));
            }
        }
        if !matches!(ask(&auth[..]), Err(error) if error.code() == Some(ResponseCode::AUTH_UNAVAILABLE))
        {
            return Err(TpmError::Unfit("wrong PINs do not block".into()));
        }
        Ok(())
    })();
    core.flush(session.handle);
    result?;
    match core.link()?.tpm.start_bound_session(handle, name) {
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
