//! The authority that certifies attestation keys: what it decides, and the certificate it issues.
//!
//! [`Policy::challenge`] judges a card's request and makes a challenge for its TPM; [`Policy::decide`] judges the
//! answer; [`Signer::issue`] makes the certificate. Between the two the authority keeps nothing: what it needs travels
//! in the challenge's state, under a MAC. What it must remember is which challenges were answered
//! ([`Decision::challenge`]).
//! Keys, files, time and random bytes are the caller's.

mod signer;
mod state;

use cardea_pki::PublicKey;
use sha2::{Digest, Sha256};

pub use self::signer::{IssueError, Signer, Term};
use self::state::State;
use crate::bundle::Witness;
use crate::exchange::{Answer, Challenge, OfferedKey, Request, RequestForm, answer_data};
use crate::policy::{Name, name_of, qualified_name};
use crate::structure::AttestKind;
use crate::verify::attestation_key::attestation_key;
use crate::verify::indices::check_witness;
use crate::verify::statement::{self, Statements};
use crate::verify::{Checks, check_root};
use crate::{
    BadFirmware, Code, EkOrigin, EkTrust, EkVoucher, EndorsementKey, Refusal, TpmIdentity,
    make_credential,
};

/// How long a challenge can be answered, in seconds, if nothing else is asked for.
pub const CHALLENGE_SECONDS: i64 = 600;

/// Whom an authority certifies.
#[derive(Clone, Copy)]
pub struct Policy<'a> {
    /// Which endorsement keys it accepts.
    pub trust: EkTrust<'a>,
    /// Firmware that it does not certify: TPMs that lose the count of wrong PINs, for instance.
    pub bad_firmware: &'a [BadFirmware],
    /// The key of the MAC over a challenge's state: secret, and the same for challenge and answer.
    pub state_key: &'a [u8; 32],
    /// How long a challenge can be answered, in seconds.
    pub challenge_seconds: i64,
}

/// A challenge, and what it was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenged {
    /// The message to the card.
    pub challenge: Challenge,
    /// The TPM for which it was made.
    pub tpm: KnownTpm,
}

/// A TPM, and how the authority knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTpm {
    /// SHA-256 of the endorsement key's SubjectPublicKeyInfo.
    pub pin: [u8; 32],
    /// By what it is known.
    pub origin: EkOrigin,
    /// The root of its maker, if it is known by a certificate.
    pub root: Option<String>,
    /// What it is; of a TPM without a certificate that names it, what it says itself.
    pub identity: TpmIdentity,
}

/// What an authority may certify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Which challenge was answered: to be remembered before anything is issued.
    pub challenge: [u8; 32],
    /// The attestation key.
    pub key: PublicKey,
    /// Its Name.
    pub name: Name,
    /// The TPM that holds it.
    pub tpm: KnownTpm,
    /// The form of its card.
    pub form: RequestForm,
    /// What the card is called, as it says.
    pub card: Option<String>,
}

impl Policy<'_> {
    /// Judges a request, and makes a challenge that only its TPM can open.
    ///
    /// Of several endorsement keys that it accepts it takes one with a certificate, else a pinned one.
    /// `random` fills a buffer with random bytes.
    ///
    /// # Errors
    /// The first fault; if no endorsement key is accepted, why the first was not.
    pub fn challenge(
        &self,
        request: &Request,
        now: i64,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Challenged, Refusal> {
        self.challenge_with(request, now, random, &Checks::default())
    }

    pub(crate) fn challenge_with(
        &self,
        request: &Request,
        now: i64,
        random: &mut dyn FnMut(&mut [u8]),
        checks: &Checks<'_>,
    ) -> Result<Challenged, Refusal> {
        let (index, key, tpm) = self.choose(request, now, checks)?;
        attestation_key(&request.attestation_key, checks)?;
        check_root(&request.storage_root_key, checks)?;
        let mut secret = zeroize::Zeroizing::new([0; 32]);
        random(&mut *secret);
        let name = name_of(&request.attestation_key);
        let made = make_credential(&key, &name, &*secret, random)
            .ok_or_else(|| Refusal::new(Code::EkAlgorithm))?;
        let state = State {
            time: now,
            secret: Sha256::digest(*secret).into(),
            attestation_key: request.attestation_key.clone(),
            storage_root_key: request.storage_root_key.clone(),
            form: request.form.clone(),
            tpm: tpm.clone(),
            card: request.name.clone(),
        };
        Ok(Challenged {
            challenge: Challenge {
                endorsement_key: index,
                blob: made.blob,
                seed: made.seed,
                state: state.seal(self.state_key),
            },
            tpm,
        })
    }

    /// The endorsement key by which the TPM is known best, and its number.
    fn choose(
        &self,
        request: &Request,
        now: i64,
        checks: &Checks<'_>,
    ) -> Result<(u8, EndorsementKey, KnownTpm), Refusal> {
        let mut refusal = None;
        let mut best: Option<(u8, EndorsementKey, KnownTpm)> = None;
        for (index, offered) in (0..).zip(&request.endorsement_keys) {
            match self.judge(offered, request, now, checks) {
                Ok((key, tpm)) => {
                    let is_better = best
                        .as_ref()
                        .is_none_or(|(.., known)| rank(tpm.origin) < rank(known.origin));
                    if is_better {
                        best = Some((index, key, tpm));
                    }
                }
                // The TPM is one, whichever of its keys shows it.
                Err(excluded) if excluded.code == Code::EkFirmware => return Err(excluded),
                Err(other) => _ = refusal.get_or_insert(other),
            }
        }
        best.ok_or(refusal.unwrap_or(Refusal::new(Code::EkUnknown)))
    }

    fn judge(
        &self,
        offered: &OfferedKey,
        request: &Request,
        now: i64,
        checks: &Checks<'_>,
    ) -> Result<(EndorsementKey, KnownTpm), Refusal> {
        let key = EndorsementKey::parse(&offered.public)?;
        let voucher = self.trust.check(&key, &offered.certificates, now)?;
        let (origin, root, named) = match voucher {
            EkVoucher::Certificate { root, tpm } => (EkOrigin::Certificate, Some(root), tpm),
            EkVoucher::FirstUse => (EkOrigin::FirstUse, None, None),
            EkVoucher::Pin => (EkOrigin::Pin, None, None),
        };
        let said = TpmIdentity::of_description(&request.tpm);
        let named = named.filter(TpmIdentity::is_sane);
        // A certificate shows the firmware of the day it was made, and the TPM the present one.
        let is_bad = |tpm: &TpmIdentity| self.bad_firmware.iter().any(|bad| bad.is(tpm));
        let is_excluded = is_bad(&said) || named.as_ref().is_some_and(is_bad);
        checks.require(!is_excluded, Code::EkFirmware)?;
        let known = KnownTpm {
            pin: key.pin(),
            origin,
            root,
            identity: named.unwrap_or(said),
        };
        if !known.identity.is_sane() {
            return Err(Refusal::new(Code::MessageForm));
        }
        Ok((key, known))
    }

    /// Judges an answer. `is_used` says whether a challenge was answered before.
    ///
    /// # Errors
    /// The first fault.
    pub fn decide(
        &self,
        answer: &Answer,
        now: i64,
        is_used: &dyn Fn(&[u8; 32]) -> bool,
    ) -> Result<Decision, Refusal> {
        self.decide_with(answer, now, is_used, &Checks::default())
    }

    pub(crate) fn decide_with(
        &self,
        answer: &Answer,
        now: i64,
        is_used: &dyn Fn(&[u8; 32]) -> bool,
        checks: &Checks<'_>,
    ) -> Result<Decision, Refusal> {
        let state = State::open(&answer.state, self.state_key)
            .ok_or_else(|| Refusal::new(Code::StateForeign))?;
        // Digests of random bytes: how long the comparison takes says nothing of them.
        let secret: [u8; 32] = Sha256::digest(&answer.secret).into();
        checks.require(secret == state.secret, Code::Secret)?;
        let age = now.checked_sub(state.time);
        let is_young = age.is_some_and(|age| (0..=self.challenge_seconds).contains(&age));
        checks.require(is_young, Code::ChallengeExpired)?;
        let challenge = Sha256::digest(&answer.state).into();
        checks.require(!is_used(&challenge), Code::AnswerUsed)?;

        let key = attestation_key(&state.attestation_key, checks)?;
        let root = check_root(&state.storage_root_key, checks)?;
        let name = name_of(&state.attestation_key);
        let qualified = qualified_name(Some(&root), &name);
        let signer = statement::Signer::new(key.clone(), qualified);
        let q = answer_data(&answer.secret);
        let statements = Statements { q: &q, checks };
        let subject = statements.check(
            &answer.attestation_key,
            &signer,
            AttestKind::Certify,
            &statement::ATTESTATION,
        )?;
        let is_it = subject.name == name && subject.content == qualified;
        checks.require(is_it, Code::AkName)?;
        match (&state.form, &answer.witness) {
            (RequestForm::Approved, None) => {}
            (
                RequestForm::Sealed {
                    made_at_reset,
                    witness,
                },
                Some(statement),
            ) => {
                let witness = Witness {
                    public: witness.clone(),
                    statement: statement.clone(),
                };
                check_witness(&witness, *made_at_reset, &root, &statements, &signer)?;
            }
            _ => checks.require(false, Code::WitnessMissing)?,
        }
        Ok(Decision {
            challenge,
            key,
            name,
            tpm: state.tpm,
            form: state.form,
            card: state.card,
        })
    }
}

/// How well a TPM is known: less is better.
const fn rank(origin: EkOrigin) -> u8 {
    match origin {
        EkOrigin::Certificate => 0,
        EkOrigin::Pin => 1,
        EkOrigin::FirstUse => 2,
    }
}
