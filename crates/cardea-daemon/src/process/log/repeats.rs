//! Lines that repeat: users can cause some of them as often as they like, so they are counted, and the number is
//! logged in place of them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber, span};

/// What exceeds its number in this time is counted, and logged as a number when the time is over.
pub(super) const INTERVAL: Duration = Duration::from_secs(60);

/// Lines of one place in the program about one user (or about none) in [`INTERVAL`].
pub(super) const LINES: u64 = 20;

/// Lines about what was refused to a user, marked with `refused = true`, of one place and one user in [`INTERVAL`].
pub(super) const REFUSALS: u64 = 1;

/// Places and users that are counted apart; all others are counted by place.
const MAX_ENTRIES: usize = 4096;

/// Longest message that is repeated with its number, in bytes.
const MAX_MESSAGE: usize = 200;

/// The audit's lines, whose hashes must not be lost, have budgets of their own.
const AUDIT: &str = "cardea::audit";

/// The target of the lines that have the numbers.
const NUMBERS: &str = "cardea::repeats";

/// Of this process, as its log is.
static COUNTS: Mutex<Option<Counts>> = Mutex::new(None);

/// Logs what was withheld and is due: for somebody who calls it again and again, also while nothing else is logged.
pub(super) fn report() {
    let withheld = with_counts(|counts| counts.sweep(Instant::now()));
    withheld.into_iter().for_each(Withheld::tell);
}

/// Logs all that was withheld, due or not: at the end of the process nobody else does.
pub(super) fn report_all() {
    let withheld = with_counts(Counts::drain);
    withheld.into_iter().for_each(Withheld::tell);
}

fn with_counts<R>(work: impl FnOnce(&mut Counts) -> R) -> R {
    let mut counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    work(counts.get_or_insert_default())
}

/// A subscriber that gets each line a few times only.
pub(super) struct Repeats<S>(pub(super) S);

impl<S: Subscriber> Subscriber for Repeats<S> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.0.register_callsite(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.0.max_level_hint()
    }

    fn event_enabled(&self, event: &Event<'_>) -> bool {
        let metadata = event.metadata();
        // Who asks for more gets it all.
        let is_counted = *metadata.level() <= Level::INFO;
        if !is_counted || [AUDIT, NUMBERS].contains(&metadata.target()) {
            return self.0.event_enabled(event);
        }
        let (written, withheld) = with_counts(|counts| counts.judge(event, Instant::now()));
        // Not under the lock: these are events themselves.
        withheld.into_iter().for_each(Withheld::tell);
        written && self.0.event_enabled(event)
    }

    fn event(&self, event: &Event<'_>) {
        self.0.event(event);
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        self.0.new_span(span)
    }

    fn record(&self, span: &span::Id, values: &span::Record<'_>) {
        self.0.record(span, values);
    }

    fn record_follows_from(&self, span: &span::Id, follows: &span::Id) {
        self.0.record_follows_from(span, follows);
    }

    fn enter(&self, span: &span::Id) {
        self.0.enter(span);
    }

    fn exit(&self, span: &span::Id) {
        self.0.exit(span);
    }

    fn clone_span(&self, span: &span::Id) -> span::Id {
        self.0.clone_span(span)
    }

    fn try_close(&self, span: span::Id) -> bool {
        self.0.try_close(span)
    }
}

#[derive(Debug, Default)]
struct Counts {
    entries: HashMap<(Identifier, Option<u64>), Entry>,
    /// When it was last looked what is over.
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    since: Instant,
    count: u64,
    limit: u64,
    line: String,
}

/// Lines that were not written.
#[derive(Debug, PartialEq, Eq)]
struct Withheld {
    uid: Option<u64>,
    times: u64,
    line: String,
}

impl Withheld {
    fn tell(self) {
        let Self { uid, times, line } = self;
        // Not as the field `message`: that is the text of the event itself.
        tracing::warn!(target: NUMBERS, uid, times, line, "repeated and not logged each time");
    }
}

impl Counts {
    /// Whether a line is written, and what was withheld before and is due.
    fn judge(&mut self, event: &Event<'_>, now: Instant) -> (bool, Vec<Withheld>) {
        let withheld = self.sweep(now);
        let mut about = About::default();
        event.record(&mut about);
        let key = (event.metadata().callsite(), about.uid);
        let limit = if about.refused { REFUSALS } else { LINES };
        let written = self.admit(key, limit, now, || {
            let mut text = Text::default();
            event.record(&mut text);
            text.0
        });
        (written, withheld)
    }

    fn admit(
        &mut self,
        (place, uid): (Identifier, Option<u64>),
        limit: u64,
        now: Instant,
        line: impl FnOnce() -> String,
    ) -> bool {
        let mut key = (place, uid);
        if self.entries.len() >= MAX_ENTRIES && !self.entries.contains_key(&key) {
            // As many users are one user's doing. Places are few.
            key.1 = None;
        }
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            since: now,
            count: 0,
            limit,
            line: line(),
        });
        entry.count += 1;
        entry.count <= entry.limit
    }

    /// Forgets what is over. The numbers of what was not written remain.
    fn sweep(&mut self, now: Instant) -> Vec<Withheld> {
        let mut withheld = Vec::new();
        let swept = self.swept.get_or_insert(now);
        if now.duration_since(*swept) < INTERVAL / 12 {
            return withheld;
        }
        *swept = now;
        self.entries.retain(|(_, uid), entry| {
            let is_over = now.duration_since(entry.since) >= INTERVAL;
            if is_over {
                withheld.extend(entry.withheld(*uid));
            }
            !is_over
        });
        withheld
    }

    /// Forgets everything. The numbers of what was not written remain.
    fn drain(&mut self) -> Vec<Withheld> {
        let entries = self.entries.drain();
        let withheld = entries.filter_map(|((_, uid), mut entry)| entry.withheld(uid));
        withheld.collect()
    }
}

impl Entry {
    fn withheld(&mut self, uid: Option<u64>) -> Option<Withheld> {
        let times = self.count.saturating_sub(self.limit);
        (times > 0).then(|| Withheld {
            uid,
            times,
            line: std::mem::take(&mut self.line),
        })
    }
}

/// Whom a line is about, and whether it says that something was refused to them.
#[derive(Default)]
struct About {
    uid: Option<u64>,
    refused: bool,
}

impl Visit for About {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if ["uid", "by"].contains(&field.name()) {
            self.uid = Some(value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.refused |= field.name() == "refused" && value;
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// The message of a line, without its other fields.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
            let end = self.0.floor_char_boundary(MAX_MESSAGE);
            self.0.truncate(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Hands each event on.
    struct Events<F>(F);

    impl<F: Fn(&Event<'_>) + 'static> Subscriber for Events<F> {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn event(&self, event: &Event<'_>) {
            (self.0)(event);
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    /// Counts the lines that come through, without the process's own counts.
    struct Lines {
        counts: Arc<Mutex<Counts>>,
        now: Arc<Mutex<Instant>>,
        written: Sender<bool>,
        withheld: Sender<Withheld>,
    }

    impl Lines {
        fn count(&self, event: &Event<'_>) {
            let now = *self.now.lock().unwrap();
            let (written, withheld) = self.counts.lock().unwrap().judge(event, now);
            self.written.send(written).unwrap();
            for withheld in withheld {
                self.withheld.send(withheld).unwrap();
            }
        }
    }

    fn counted_by(lines: Lines, work: impl FnOnce()) {
        let events = Events(move |event: &Event<'_>| lines.count(event));
        tracing::subscriber::with_default(events, work);
    }

    fn refused(uid: u32) {
        tracing::warn!(uid, refused = true, "too many connections");
    }

    fn note(uid: u32, number: u32) {
        tracing::info!(uid, number, "agent registered");
    }

    #[test]
    fn refusals_are_logged_once_a_minute_for_each_user_with_their_number() {
        let (sender, written) = channel();
        let (withheld, told) = channel();
        let counts: Arc<Mutex<Counts>> = Arc::default();
        let now = Arc::new(Mutex::new(Instant::now()));
        let lines = Lines {
            counts: Arc::clone(&counts),
            now: Arc::clone(&now),
            written: sender,
            withheld,
        };
        let count = || written.try_iter().filter(|written| *written).count();
        counted_by(lines, || {
            for _ in 0..100_000 {
                refused(1000);
            }
            assert_eq!(count(), 1);
            refused(1001);
            assert_eq!(count(), 1, "another user");
            for number in 0..100 {
                note(1000, number);
            }
            assert_eq!(count(), usize::try_from(LINES).unwrap());
            assert!(told.try_recv().is_err());
            *now.lock().unwrap() += INTERVAL;
            refused(1000);
            assert_eq!(count(), 1);
            let mut told: Vec<_> = told.try_iter().collect();
            told.sort_by_key(|withheld| withheld.times);
            let [note, storm] = &told[..] else {
                panic!("{told:?}");
            };
            assert_eq!((note.uid, note.times), (Some(1000), 100 - LINES));
            assert_eq!((storm.uid, storm.times), (Some(1000), 99_999));
            assert_eq!(storm.line, "too many connections");
        });
        *now.lock().unwrap() += INTERVAL;
        let later = *now.lock().unwrap();
        let mut counts = counts.lock().unwrap();
        assert_eq!(counts.sweep(later), [], "nothing was withheld since");
        assert!(counts.entries.is_empty());
    }

    /// The fields of an event, by name.
    #[derive(Default)]
    struct Fields(Vec<(&'static str, String)>);

    impl Visit for Fields {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            self.0.push((field.name(), format!("{value:?}")));
        }
    }

    #[test]
    fn number_of_a_line_has_one_message_and_the_line_beside_it() {
        let (sender, told) = channel();
        let withheld = Withheld {
            uid: Some(1000),
            times: 7,
            line: "too many connections".into(),
        };
        let events = Events(move |event: &Event<'_>| {
            let mut fields = Fields::default();
            event.record(&mut fields);
            sender.send(fields.0).unwrap();
        });
        tracing::subscriber::with_default(events, || withheld.tell());
        let mut told = told.recv().unwrap();
        told.sort();
        let expected = [
            ("line", "\"too many connections\""),
            ("message", "repeated and not logged each time"),
            ("times", "7"),
            ("uid", "1000"),
        ];
        assert_eq!(told, expected.map(|(name, value)| (name, value.to_owned())));
    }

    #[test]
    fn thousands_of_users_do_not_grow_the_table() {
        let (sender, written) = channel();
        let (withheld, _told) = channel();
        let counts: Arc<Mutex<Counts>> = Arc::default();
        let lines = Lines {
            counts: Arc::clone(&counts),
            now: Arc::new(Mutex::new(Instant::now())),
            written: sender,
            withheld,
        };
        counted_by(lines, || (0..20_000).for_each(refused));
        assert!(counts.lock().unwrap().entries.len() <= MAX_ENTRIES + 10);
        let lines = written.iter().filter(|written| *written).count();
        assert!(lines <= MAX_ENTRIES + 10, "{lines}");
    }
}
