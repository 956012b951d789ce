//! What an authority has approved: a policy session for one later command.
//!
//! A ticket would do as well (TPM 2.0 Part 3 §23.2.5), but it is a bearer token: the TPM hands it out in the clear
//! and takes it from anybody's session. An armed, salted session is of use only to whoever has its key.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cardea_card::record::IndexRole;
use zeroize::Zeroizing;

use crate::policy::{ApprovalId, REF_ADMIN};
use crate::session::Session;

/// Seconds that an approval is good for, from the start of its session.
pub(crate) const LIFE: u32 = 60;

/// What a session was approved for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// One of the policies that the birth key has approved.
    Approved(ApprovalId),
    /// The sealed admin key.
    Unseal,
}

impl Purpose {
    /// Whose value it takes, under which policyRef. None: it takes none.
    pub(crate) fn secret(self) -> Option<(IndexRole, &'static [u8])> {
        match self {
            Self::Approved(id) => id.policy().0,
            Self::Unseal => Some((IndexRole::Adm, REF_ADMIN)),
        }
    }
}

/// A session that was approved, taken out of the TPM's slots (TPM2_ContextSave).
pub(crate) struct ApprovedSession {
    purpose: Purpose,
    pub(crate) session: Session,
    pub(crate) context: Zeroizing<Vec<u8>>,
    until: Instant,
}

impl ApprovedSession {
    pub(crate) fn new(purpose: Purpose, session: Session, context: Zeroizing<Vec<u8>>) -> Self {
        Self {
            purpose,
            until: session.started + Duration::from_secs(LIFE.into()),
            session,
            context,
        }
    }

    /// Whether its time is over; the TPM would refuse it too.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }
}

/// The grants of all cards.
#[derive(Default)]
pub(crate) struct Grants(BTreeMap<u64, Vec<ApprovedSession>>);

impl Grants {
    pub(crate) fn add(&mut self, card: u64, grant: ApprovedSession) {
        self.0.entry(card).or_default().push(grant);
    }

    /// Takes the first one for this purpose.
    pub(crate) fn take(&mut self, card: u64, purpose: Purpose) -> Option<ApprovedSession> {
        let grants = self.0.get_mut(&card)?;
        let position = grants.iter().position(|grant| grant.purpose == purpose)?;
        Some(grants.remove(position))
    }

    /// Takes all of a card's: their handles.
    pub(crate) fn take_all(&mut self, card: u64) -> Vec<u32> {
        let grants = self.0.remove(&card).unwrap_or_default();
        grants.iter().map(|grant| grant.session.handle).collect()
    }

    /// Takes those whose time is over: their handles.
    pub(crate) fn take_old(&mut self) -> Vec<u32> {
        let mut over = Vec::new();
        for grants in self.0.values_mut() {
            grants.retain(|grant| {
                let is_over = grant.is_over();
                if is_over {
                    over.push(grant.session.handle);
                }
                !is_over
            });
        }
        over
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.values().all(Vec::is_empty)
    }

    /// Forgets those that are not to be kept.
    pub(crate) fn retain(&mut self, mut is_kept: impl FnMut(&mut ApprovedSession) -> bool) {
        for grants in self.0.values_mut() {
            grants.retain_mut(&mut is_kept);
        }
    }

    /// They went with the connection.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
