//! The presence reported to pcscd for a slot, which may lag behind the truth so that no change is missed.
//!
//! pcscd notices a removal only when its polling thread asks for the presence while there is no card.
//! So the report changes in steps, at most one between two questions of that thread: a card that replaced
//! another, or that came back with a restarted daemon, is reported as a removal and then an insertion.

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

    /// Whether a card is reported as present.
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

    /// The connection that powered the card is gone: a removal and an insertion are reported.
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    use cardea_client::message::Reply;
    use cardea_client::{ServerEnd, Watch};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// Two insertions of one connection.
    fn insertions() -> [Option<Insertion>; 2] {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let daemon = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut client = ServerEnd::accept(stream, LIMIT).unwrap();
            client.request(Some(LIMIT)).unwrap();
            let reply = Reply::Slots {
                generation: 1,
                inserted: vec![1, 2],
            };
            client.reply(&reply).unwrap();
            while let Ok(Some(_)) = client.request(Some(LIMIT)) {}
        });
        let mut watch = Watch::new(&socket);
        watch.refresh(LIMIT);
        let insertions = [watch.inserted(0), watch.inserted(1)];
        drop(watch);
        daemon.join().unwrap();
        assert!(insertions.iter().all(Option::is_some));
        insertions
    }

    /// What is reported to pcscd's polling thread, until nothing changes.
    fn told(seen: &mut Seen) -> Vec<bool> {
        let mut answers = vec![seen.is_present()];
        while seen.step() {
            answers.push(seen.is_present());
        }
        answers
    }

    #[test]
    fn every_change_is_told_step_by_step() {
        let [one, other] = insertions();
        let mut seen = Seen::default();
        assert_eq!(told(&mut seen), [false]);
        seen.update(one);
        assert_eq!(told(&mut seen), [false, true]);
        seen.update(other);
        assert_eq!(told(&mut seen), [false, false, true], "replaced");
        seen.update(None);
        assert_eq!(told(&mut seen), [false, false]);
        seen.update(one);
        seen.update(None);
        assert_eq!(
            told(&mut seen),
            [false],
            "inserted and removed between two questions"
        );
    }

    #[test]
    fn card_without_power_is_told_as_removed_and_inserted() {
        let [one, _] = insertions();
        let mut seen = Seen::default();
        seen.lose();
        assert_eq!(told(&mut seen), [false]);
        seen.update(one);
        told(&mut seen);
        seen.set_atr(&[0x3B]);
        seen.lose();
        assert!(seen.atr().is_empty());
        assert_eq!(told(&mut seen), [false, false, true]);
        assert_eq!(told(&mut seen), [true]);
    }
}
