//! What pcscd is told of a slot, which may lag behind the truth so that no change is missed.
//!
//! pcscd notices a removal only when its polling thread asks for the presence while there is no card.
//! So what is told changes in steps, at most one between two questions of that thread: a card that replaced
//! another, or that came back with a restarted daemon, is told as a removal and then an insertion.

use cardea_client::Insertion;

use crate::codes::MAX_ATR_SIZE;

/// State of one slot.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The truth.
    current: Option<Insertion>,
    /// What pcscd knows, or is just about to learn.
    shown: Option<Insertion>,
    /// The card lost its power without pcscd asking for it.
    lost: bool,
    atr: Vec<u8>,
}

impl Seen {
    /// Takes note of the truth.
    pub(crate) fn update(&mut self, current: Option<Insertion>) {
        self.current = current;
    }

    /// Whether pcscd is told that a card is there.
    pub(crate) fn is_present(&self) -> bool {
        self.shown.is_some() && self.shown == self.current && !self.lost
    }

    /// Goes one step towards the truth. Whether there was one to go.
    pub(crate) fn step(&mut self) -> bool {
        if self.shown.is_some() && !self.is_present() {
            *self = Self {
                current: self.current,
                ..Self::default()
            };
            true
        } else if self.shown.is_none() && self.current.is_some() {
            self.shown = self.current;
            true
        } else {
            false
        }
    }

    /// The connection that gave the card its power is gone: it is told as removed and inserted again.
    pub(crate) fn lose(&mut self) {
        self.lost = self.shown.is_some();
        self.atr.clear();
    }

    /// Answer to reset of the card; empty without power.
    pub(crate) fn atr(&self) -> &[u8] {
        &self.atr
    }

    pub(crate) fn set_atr(&mut self, atr: &[u8]) {
        self.atr.clear();
        self.atr
            .extend_from_slice(atr.get(..MAX_ATR_SIZE).unwrap_or(atr));
    }
}
