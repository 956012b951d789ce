//! A TPM, or somebody in front of it, that says anything: an error each time, no panic, and the next
//! honest answer counts again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use cardea_card::record::{CardRecord, IndexRole};
use cardea_card::token::{
    KeyAlgorithm, KeyClass, KeyStore, PinError, PinReference, PrivateOperation, PublicKey,
    TokenErrorKind, Unblocker,
};
use cardea_testkit::bare::BarePins as _;
use cardea_tpm::{CardToken, Service};

use crate::proxy::{Proxy, code_of, honest, refusal};
use crate::support::{Kind, PIN, Swtpm, make, make_attested, new_card, pin, token};

const SIGN: PrivateOperation<'_> = PrivateOperation::SignEcdsa { digest: &[1; 32] };
const PASSWORD_ONLY: &[u8] = &[0x40, 0, 0, 9];

mod code {
    pub(super) const CREATE: u32 = 0x153;
    pub(super) const GET_TEST_RESULT: u32 = 0x17C;
    pub(super) const LOAD: u32 = 0x157;
    pub(super) const NV_CHANGE_AUTH: u32 = 0x13B;
    pub(super) const POLICY_SECRET: u32 = 0x151;
    pub(super) const RSA_DECRYPT: u32 = 0x159;
    pub(super) const SIGN: u32 = 0x15D;
    pub(super) const START_AUTH_SESSION: u32 = 0x176;
}

fn start() -> (Swtpm, Proxy, Service) {
    let tpm = Swtpm::start();
    let proxy = Proxy::start(&tpm.socket());
    let service = proxy.service();
    (tpm, proxy, service)
}

/// What a card does in its life with this TPM; true if all of it was done.
fn life(service: &Service, kind: Kind) -> bool {
    let made = service
        .prepare_card(&[], new_card(kind))
        .and_then(|prepared| service.create_card(prepared, &mut |_| {}));
    let Ok(record) = made.map(crate::support::record) else {
        return false;
    };
    let done = service.check_card(&record).is_ok() && uses(service, &record);
    service.destroy_card(&record.tpm).is_ok() && done
}

fn uses(service: &Service, record: &CardRecord) -> bool {
    let Ok(mut token) = service.token(record) else {
        return false;
    };
    let key = token.generate(0x81, KeyAlgorithm::P256, KeyClass::Session);
    token.verify(PinReference::Pin, &pin(PIN)).is_ok()
        && token.status(PinReference::Pin).is_ok()
        && key.is_ok_and(|key| {
            let signed = token.operate(&key, SIGN).is_ok();
            let own = token.describe(&key).unwrap().public;
            let PublicKey::Ec { x, y } = own else {
                return false;
            };
            let agreed = token.operate(&key, PrivateOperation::Ecdh { x: &x, y: &y });
            signed && agreed.is_ok()
        })
        && token
            .change(PinReference::Pin, &pin(PIN), &pin(b"654321"))
            .is_ok()
}

/// The null hierarchy for each handle and nothing else asks whether the TPM has the command.
fn asks_whether_it_is_there(command: &[u8]) -> bool {
    let mut handles = command[10..].chunks(4);
    handles.len() > 0 && handles.all(|handle| handle == [0x40, 0, 0, 7])
}

#[test]
fn every_command_and_response_is_what_the_codec_knows() {
    use tpm2_protocol::frame::{TpmCommandView, TpmResponse};
    let (_tpm, proxy, service) = start();
    let commands = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&commands);
    let faults = Arc::new(Mutex::new(Vec::new()));
    let found = Arc::clone(&faults);
    proxy.behave(Box::new(move |command, tpm| {
        let response = tpm(command);
        seen.fetch_add(1, Ordering::Relaxed);
        let fault = match TpmCommandView::cast_frame(command) {
            _ if asks_whether_it_is_there(command) => None,
            Err(error) => Some(format!("{error:?}")),
            Ok(view) => typed(&view, &response)
                .and_then(|()| TpmResponse::cast(&response)?.validate(view.cc()))
                .err()
                .map(|error| format!("{error:?}")),
        };
        if let Some(fault) = fault {
            found.lock().unwrap().push((code_of(command), fault));
        }
        Some(response)
    }));
    assert!(life(&service, Kind::Admin));
    attested_life(&service);
    assert!(commands.load(Ordering::Relaxed) > 60);
    let faults = faults.lock().unwrap();
    assert!(faults.is_empty(), "{:X?}", *faults);
}

/// What only a card with sealed policies does.
fn attested_life(service: &Service) {
    let mut card = make_attested(service, &[], Kind::Puk);
    let mut token = token(service, &card);
    let key = token.generate(0x81, KeyAlgorithm::P256, KeyClass::Session);
    card.keys.push(key.unwrap());
    token
        .verify(PinReference::Puk, &pin(crate::support::PUK))
        .unwrap();
    token.unblock(Unblocker::Puk, &pin(b"654321")).unwrap();
    service.evidence(&card, [0; 32], &[0x81]).unwrap();
    service.endorsement_keys().unwrap();
    service.destroy_card(&card.tpm).unwrap();
}

/// Reads a command and its response through the codec's own types.
fn typed(
    view: &tpm2_protocol::frame::TpmCommandView<'_>,
    response: &[u8],
) -> tpm2_protocol::TpmResult<()> {
    use tpm2_protocol::frame::*;
    macro_rules! types {
        ($($command:ident $($response:ident)?: $variant:ident),* $(,)?) => {
            match view {
                $(TpmCommandView::$variant(command) => {
                    command.unmarshal::<$command>()?;
                    $(if response[6..10] == [0; 4] {
                        TpmResponse::cast(response)?.unmarshal::<$response>()?;
                    })?
                })*
                // The first parameter is a structure, and encrypted.
                TpmCommandView::Create(_) => {}
                // The codec's type takes no empty inPrivate, which is what a public key alone has.
                TpmCommandView::LoadExternal(_) => {}
                _ => panic!("a command that no test of the codec knows"),
            }
        };
    }
    types! {
        TpmEvictControlCommand TpmEvictControlResponse: EvictControl,
        TpmNvUndefineSpaceCommand TpmNvUndefineSpaceResponse: NvUndefineSpace,
        TpmNvDefineSpaceCommand TpmNvDefineSpaceResponse: NvDefineSpace,
        TpmCreatePrimaryCommand TpmCreatePrimaryResponse: CreatePrimary,
        TpmNvWriteCommand TpmNvWriteResponse: NvWrite,
        TpmNvChangeAuthCommand TpmNvChangeAuthResponse: NvChangeAuth,
        TpmStartupCommand TpmStartupResponse: Startup,
        TpmNvReadCommand TpmNvReadResponse: NvRead,
        TpmPolicySecretCommand TpmPolicySecretResponse: PolicySecret,
        TpmEcdhZGenCommand: EcdhZGen,
        TpmLoadCommand TpmLoadResponse: Load,
        TpmSignCommand TpmSignResponse: Sign,
        TpmPolicySignedCommand TpmPolicySignedResponse: PolicySigned,
        TpmFlushContextCommand TpmFlushContextResponse: FlushContext,
        TpmNvReadPublicCommand TpmNvReadPublicResponse: NvReadPublic,
        TpmPolicyAuthorizeCommand TpmPolicyAuthorizeResponse: PolicyAuthorize,
        TpmPolicyCommandCodeCommand TpmPolicyCommandCodeResponse: PolicyCommandCode,
        TpmReadPublicCommand TpmReadPublicResponse: ReadPublic,
        TpmGetRandomCommand TpmGetRandomResponse: GetRandom,
        TpmStartAuthSessionCommand TpmStartAuthSessionResponse: StartAuthSession,
        TpmVerifySignatureCommand TpmVerifySignatureResponse: VerifySignature,
        TpmGetCapabilityCommand: GetCapability,
        TpmPolicyRestartCommand TpmPolicyRestartResponse: PolicyRestart,
        TpmPolicyTicketCommand TpmPolicyTicketResponse: PolicyTicket,
        TpmPolicyGetDigestCommand TpmPolicyGetDigestResponse: PolicyGetDigest,
        TpmCertifyCommand TpmCertifyResponse: Certify,
        TpmNvCertifyCommand TpmNvCertifyResponse: NvCertify,
        TpmPolicyAuthorizeNvCommand TpmPolicyAuthorizeNvResponse: PolicyAuthorizeNv,
        TpmPolicyCounterTimerCommand TpmPolicyCounterTimerResponse: PolicyCounterTimer,
        TpmPolicyCpHashCommand TpmPolicyCpHashResponse: PolicyCpHash,
        TpmPolicyNameHashCommand TpmPolicyNameHashResponse: PolicyNameHash,
        TpmPolicyOrCommand TpmPolicyOrResponse: PolicyOr,
        TpmReadClockCommand TpmReadClockResponse: ReadClock,
        TpmContextLoadCommand TpmContextLoadResponse: ContextLoad,
        TpmContextSaveCommand TpmContextSaveResponse: ContextSave,
    }
    Ok(())
}

#[test]
fn no_value_and_no_secret_result_travels_in_clear() {
    let (_tpm, proxy, service) = start();
    let traffic = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&traffic);
    proxy.behave(Box::new(move |command, tpm| {
        let response = tpm(command);
        heard.lock().unwrap().extend_from_slice(command);
        heard.lock().unwrap().extend_from_slice(&response);
        Some(response)
    }));
    let card = make(&service, Kind::AdminAndPuk);
    let mut token = token(&service, &card);
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    let new = pin(b"24681357");
    token.change(PinReference::Pin, &pin(PIN), &new).unwrap();
    token.verify(PinReference::Pin, &new).unwrap();
    let key = token
        .generate(0x81, KeyAlgorithm::P256, KeyClass::Session)
        .unwrap();
    let PublicKey::Ec { x, y } = token.describe(&key).unwrap().public else {
        panic!("not EC")
    };
    let shared = token
        .operate(&key, PrivateOperation::Ecdh { x: &x, y: &y })
        .unwrap();

    let traffic = traffic.lock().unwrap();
    let value = |role, typed: &[u8]| *cardea_tpm::auth::auth_value(&card.tpm.salt, role, typed);
    let admin = {
        let key = cardea_tpm::AdminKey::new(&crate::support::ADMIN_KEY).unwrap();
        let vault = card.tpm.vault.as_ref().unwrap();
        let mut answer = vault.entries[0].challenge.clone();
        key.encrypt(&mut answer);
        *cardea_tpm::vault::candidate(vault, &vault.entries[0], &answer).unwrap()
    };
    for (what, secret) in [
        ("PIN", &value(IndexRole::Pin, PIN)[..8]),
        ("new PIN", &value(IndexRole::Pin, new.expose())[..8]),
        ("PUK", &value(IndexRole::Puk, crate::support::PUK)[..8]),
        ("admin value", &admin[..8]),
        ("shared secret", &shared[..8]),
        ("PIN as typed", PIN),
    ] {
        let found = traffic.windows(secret.len()).any(|bytes| bytes == secret);
        assert!(!found, "{what}");
    }
    // And the test would see it: the public point did travel.
    assert!(traffic.windows(8).any(|bytes| bytes == &x[..8]));
}

#[test]
fn warnings_that_ask_for_it_are_followed() {
    let (_tpm, proxy, service) = start();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    for warning in [0x922, 0x908, 0x920, 0x90A, 0x923] {
        let said = AtomicBool::new(false);
        proxy.behave(Box::new(move |command, tpm| {
            let first =
                code_of(command) == code::POLICY_SECRET && !said.swap(true, Ordering::Relaxed);
            Some(if first {
                refusal(warning)
            } else {
                tpm(command)
            })
        }));
        token.verify(PinReference::Pin, &pin(PIN)).unwrap();
        proxy.behave(honest());
        assert_eq!(token.status(PinReference::Pin).unwrap().left, 5);
    }
}

#[test]
fn full_slots_are_emptied_once() {
    let (_tpm, proxy, service) = start();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    let key = token
        .generate(0x81, KeyAlgorithm::P256, KeyClass::Session)
        .unwrap();
    for (at, full) in [
        (code::LOAD, 0x902),
        (code::START_AUTH_SESSION, 0x903),
        (code::START_AUTH_SESSION, 0x905),
    ] {
        token.logout();
        token.forget(&key);
        let said = AtomicBool::new(false);
        proxy.behave(Box::new(move |command, tpm| {
            let first = code_of(command) == at && !said.swap(true, Ordering::Relaxed);
            Some(if first { refusal(full) } else { tpm(command) })
        }));
        token.verify(PinReference::Pin, &pin(PIN)).unwrap();
        token.operate(&key, SIGN).unwrap();
        // Full for ever is told.
        token.logout();
        token.forget(&key);
        proxy.behave(Box::new(move |command, tpm| {
            Some(if code_of(command) == at {
                refusal(full)
            } else {
                tpm(command)
            })
        }));
        let error = match token.verify(PinReference::Pin, &pin(PIN)) {
            Ok(()) => token.operate(&key, SIGN).unwrap_err(),
            Err(PinError::Token(error)) => error,
            Err(other) => panic!("{other}"),
        };
        assert_eq!(error.kind(), TokenErrorKind::Busy, "0x{full:X}");
        proxy.behave(honest());
    }
}

#[test]
fn refusals_are_told_apart() {
    let (_tpm, proxy, service) = start();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    let key = token
        .generate(0x81, KeyAlgorithm::P256, KeyClass::Session)
        .unwrap();
    for (at, code, kind) in [
        (code::SIGN, 0x921, TokenErrorKind::Lockout),
        (code::SIGN, 0x182, TokenErrorKind::KeyUse),
        (code::SIGN, 0x1D5, TokenErrorKind::BadData),
        (code::SIGN, 0x101, TokenErrorKind::Internal),
        (code::SIGN, 0x9A3, TokenErrorKind::NotAuthenticated),
        (code::LOAD, 0x1DF, TokenErrorKind::Lost),
    ] {
        token.forget(&key);
        token.verify(PinReference::Pin, &pin(PIN)).unwrap();
        proxy.behave(Box::new(move |command, tpm| {
            Some(if code_of(command) == at {
                refusal(code)
            } else {
                tpm(command)
            })
        }));
        let error = token.operate(&key, SIGN).unwrap_err();
        assert_eq!(error.kind(), kind, "0x{code:X}");
        proxy.behave(honest());
    }
    proxy.behave(Box::new(|command, tpm| {
        Some(if code_of(command) == code::POLICY_SECRET {
            refusal(0x921)
        } else {
            tpm(command)
        })
    }));
    let error = token.verify(PinReference::Pin, &pin(PIN)).unwrap_err();
    assert!(
        matches!(&error, PinError::Token(error) if error.kind() == TokenErrorKind::Lockout),
        "{error:?}"
    );
    let source = std::error::Error::source(&error).map(ToString::to_string);
    assert!(source.is_some_and(|text| text.contains("PolicySecret of 0x01C2")));
}

#[test]
fn failure_mode_is_not_taken_for_a_bad_cryptogram() {
    let (_tpm, proxy, service) = start();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    let key = token
        .generate(0x81, KeyAlgorithm::Rsa2048, KeyClass::Session)
        .unwrap();
    let raw = PrivateOperation::RsaRaw { block: &[0; 256] };
    for (answer, kind) in [
        (
            [&refusal(0)[..], &[0, 0, 0, 0, 1, 1]].concat(),
            TokenErrorKind::Internal,
        ),
        (
            [&refusal(0)[..], &[0, 0, 0, 0, 0, 0]].concat(),
            TokenErrorKind::BadData,
        ),
    ] {
        token.verify(PinReference::Pin, &pin(PIN)).unwrap();
        proxy.behave(Box::new(move |command, tpm| {
            Some(match code_of(command) {
                code::RSA_DECRYPT => refusal(0x101),
                code::GET_TEST_RESULT => {
                    let mut answer = answer.clone();
                    answer[5] = 16;
                    answer
                }
                _ => tpm(command),
            })
        }));
        assert_eq!(token.operate(&key, raw).unwrap_err().kind(), kind);
        proxy.behave(honest());
    }
}

/// Changes the response of one kind of command.
fn changed(at: u32, change: impl Fn(&mut Vec<u8>) + Send + 'static) -> crate::proxy::Hook {
    Box::new(move |command, tpm| {
        let mut response = tpm(command);
        if code_of(command) == at && response[6..10] == [0; 4] {
            change(&mut response);
        }
        Some(response)
    })
}

#[test]
fn changed_response_of_a_session_is_refused_wherever_it_is_changed() {
    let (_tpm, proxy, service) = start();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    let key = token
        .generate(0x81, KeyAlgorithm::P256, KeyClass::Session)
        .unwrap();
    token.operate(&key, SIGN).unwrap();
    // Every byte of the response of PolicySecret and Sign: sizes, parameters, nonce, attributes, HMAC.
    for at in [code::POLICY_SECRET, code::SIGN] {
        for position in 0..160 {
            token.verify(PinReference::Pin, &pin(PIN)).unwrap();
            let reached = Arc::new(AtomicBool::new(false));
            let hit = Arc::clone(&reached);
            proxy.behave(changed(at, move |response| {
                if let Some(byte) = response.get_mut(position) {
                    *byte ^= 1 << (position % 8);
                    hit.store(true, Ordering::Relaxed);
                }
            }));
            let refused = match at {
                code::SIGN => token.operate(&key, SIGN).is_err(),
                _ => token.verify(PinReference::Pin, &pin(PIN)).is_err(),
            };
            proxy.behave(honest());
            assert_eq!(
                refused,
                reached.load(Ordering::Relaxed),
                "byte {position} of 0x{at:X}"
            );
        }
    }
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    token.operate(&key, SIGN).unwrap();
    assert_eq!(token.status(PinReference::Pin).unwrap().left, 5);
}

#[test]
fn response_without_its_hmac_is_refused() {
    let (_tpm, proxy, service) = start();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    // As an answer without sessions, and as one with a session but an empty HMAC.
    let no_sessions = |response: &mut Vec<u8>| {
        let length = u32::from_be_bytes(response[10..14].try_into().unwrap()) as usize;
        let parameters = response[14..14 + length].to_vec();
        *response = [&refusal(0)[..], &parameters].concat();
        response[2..6].copy_from_slice(&(10 + length as u32).to_be_bytes());
    };
    let no_hmac = |response: &mut Vec<u8>| {
        let length = response.len() - 32;
        response.truncate(length);
        response[2..6].copy_from_slice(&(length as u32).to_be_bytes());
        response[length - 2..].copy_from_slice(&[0, 0]);
    };
    let no_area = |response: &mut Vec<u8>| {
        let length = u32::from_be_bytes(response[10..14].try_into().unwrap()) as usize;
        response.truncate(14 + length);
        response[2..6].copy_from_slice(&(14 + length as u32).to_be_bytes());
    };
    type Change = fn(&mut Vec<u8>);
    for change in [no_sessions as Change, no_hmac, no_area] {
        proxy.behave(changed(code::POLICY_SECRET, change));
        let error = token.verify(PinReference::Pin, &pin(PIN)).unwrap_err();
        assert!(
            matches!(&error, PinError::Token(error) if error.kind() == TokenErrorKind::Internal),
            "{error:?}"
        );
        proxy.behave(changed(code::CREATE, change));
        let made = token.generate(0x81, KeyAlgorithm::P256, KeyClass::Session);
        assert!(made.is_err());
        proxy.behave(honest());
        token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    }
    // A PIN whose change nobody confirmed is not reported as changed.
    proxy.behave(changed(code::NV_CHANGE_AUTH, no_sessions));
    assert!(
        token
            .change(PinReference::Pin, &pin(PIN), &pin(b"654321"))
            .is_err()
    );
    proxy.behave(honest());
    token.verify(PinReference::Pin, &pin(b"654321")).unwrap();
}

/// Deterministic noise, so that a failure can be repeated.
fn noise(seed: u64) -> impl FnMut() -> u64 + Send {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

#[test]
fn hostile_responses_never_do_more_than_fail() {
    let (_tpm, proxy, service) = start();
    assert!(life(&service, Kind::Puk));
    for seed in 0..48 {
        let mut next = noise(seed + 1);
        // Each life is spoilt at some command by one kind of answer, then again now and then.
        let (mut wait, kind) = (next() % 40, seed % 6);
        proxy.behave(Box::new(move |command, tpm| {
            let honest = tpm(command);
            if wait > 0 {
                wait -= 1;
                return Some(honest);
            }
            wait = next() % 20;
            let mut response = honest;
            match kind {
                0 => {
                    // Bit flips.
                    for _ in 0..=next() % 4 {
                        let at = next() as usize % response.len();
                        response[at] ^= 1 << (next() % 8);
                    }
                }
                1 => response.truncate(next() as usize % response.len()),
                2 => response.extend(std::iter::repeat_n(0x5A, 1 + next() as usize % 5000)),
                3 => {
                    // Cut, with a length field that fits.
                    response.truncate(10 + next() as usize % (response.len() - 9));
                    let length = response.len() as u32;
                    response[2..6].copy_from_slice(&length.to_be_bytes());
                }
                4 => {
                    // Noise behind a right header.
                    for byte in response.iter_mut().skip(10) {
                        *byte = next() as u8;
                    }
                }
                _ => return None,
            }
            Some(response)
        }));
        // Whether it worked in spite of it does not matter here.
        life(&service, Kind::Puk);
        service.status().ok();
        proxy.behave(honest());
        // What a failed creation could not take back is what its intent would name.
        sweep(&service);
        assert!(life(&service, Kind::Puk), "after seed {seed}");
    }
}

/// Removes what the interrupted lives have left, as their intents would.
fn sweep(service: &Service) {
    for handle in service.defined_indices().unwrap() {
        let command = crate::raw::send(service, 0x169, &[handle], &[], &[]);
        assert_eq!(command.0, 0);
        let (code, _) = crate::raw::send(
            service,
            0x122,
            &[crate::raw::OWNER, handle],
            &[crate::raw::Auth::Password(&[])],
            &[],
        );
        assert_eq!(code, 0);
    }
}

#[test]
fn wrong_pin_with_a_lost_answer_costs_one_try_and_is_not_repeated() {
    let (_tpm, proxy, service) = start();
    let card = make(&service, Kind::Plain);
    let mut token: CardToken = token(&service, &card);
    proxy.behave(Box::new(|command, tpm| {
        let response = tpm(command);
        (code_of(command) != code::POLICY_SECRET).then_some(response)
    }));
    let error = token
        .verify(PinReference::Pin, &pin(b"000000"))
        .unwrap_err();
    assert!(
        matches!(&error, PinError::Token(error) if error.kind() == TokenErrorKind::Unavailable),
        "{error:?}"
    );
    proxy.behave(honest());
    assert_eq!(token.status(PinReference::Pin).unwrap().left, 4);
}

#[test]
fn session_authorises_nothing_in_clear() {
    let (_tpm, proxy, service) = start();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    let passwords = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&passwords);
    proxy.behave(Box::new(move |command, tpm| {
        if command.windows(4).any(|bytes| bytes == PASSWORD_ONLY) {
            heard.lock().unwrap().push(code_of(command));
        }
        Some(tpm(command))
    }));
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    token
        .change(PinReference::Pin, &pin(PIN), &pin(b"654321"))
        .unwrap();
    assert_eq!(*passwords.lock().unwrap(), [0u32; 0]);
}

#[test]
fn probe_that_is_killed_at_any_command_leaves_nothing_after_the_next_start() {
    let tpm = Swtpm::start();
    let card = make(&tpm.service(), Kind::Admin);
    let taken: Vec<u32> = card.tpm.indices.iter().map(|index| index.handle).collect();
    let handles = |service: &Service| -> Vec<u32> {
        let indices = service.indices().unwrap();
        indices.iter().map(|index| index.handle).collect()
    };
    let (mut left, mut tests) = (0, 0);
    for (what, test) in [
        (
            "counters",
            Service::check_counters as fn(&Service, &[u32]) -> _,
        ),
        ("room", Service::room_for_card),
    ] {
        for last in 1_usize.. {
            let proxy = Proxy::start(&tpm.socket());
            let service = proxy.service();
            service.status().unwrap();
            let mut sent = 0;
            proxy.behave(Box::new(move |command, tpm| {
                sent += 1;
                // The last one is carried out, and nobody hears of it.
                let response = (sent <= last).then(|| tpm(command));
                response.filter(|_| sent < last)
            }));
            let whole = test(&service, &taken).is_ok();
            drop((service, proxy));
            let next = tpm.service();
            let found = handles(&next);
            let throw_away: Vec<u32> = found
                .into_iter()
                .filter(|one| !taken.contains(one))
                .collect();
            let claimed: Vec<u32> = taken.iter().chain(&throw_away).copied().collect();
            assert_eq!(
                next.remove_leftovers(&claimed).unwrap(),
                0,
                "{what} {last}: taken"
            );
            let removed = next.remove_leftovers(&taken).unwrap();
            assert_eq!(removed, throw_away.len(), "{what} {last}");
            assert_eq!(handles(&next).len(), taken.len(), "{what} {last}");
            left += removed;
            if whole {
                assert_eq!(removed, 0);
                break;
            }
            tests += 1;
        }
    }
    assert!(left > 10 && tests > 20, "{left} left by {tests} tests");
    let service = tpm.service();
    token(&service, &card)
        .verify(PinReference::Pin, &pin(PIN))
        .unwrap();
}
