//! Calls on their way in: what they may bring and how many are under way, judged by the thread that reads, before
//! anything is decoded. So no user can take memory, descriptors or threads from the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use zbus::Message;

use super::Bus;
use super::clients::{Call, Client, too_many};
use super::error::BusError;
use super::interfaces::Bound;
use super::link::Link;
use cardea_host::lock;

/// Calls at work for all clients together.
const MAX_CALLS: usize = 128;

/// Calls of connections about which the bus has not been asked yet.
const MAX_STRANGERS: usize = 64;

/// Calls of one such connection. Some libraries make several at once to begin with.
const MAX_OF_STRANGER: usize = 8;

/// Path, names and signature of a call, in bytes.
const MAX_HEADER: usize = 4096;

/// Messages that may wait for the thread that reads. The bus limits the length of each (32 MiB on the system's).
pub(crate) const MAX_UNREAD: usize = 4;

/// Counts the calls at work.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    calls: Arc<()>,
    strangers: Arc<Mutex<HashMap<String, usize>>>,
}

/// A place for one call, until it is answered and what it has begun is done.
pub(crate) struct Place {
    whose: Whose,
    _seat: Arc<()>,
}

enum Whose {
    Known(Call),
    Unknown(Stranger),
}

/// A call of a connection whose user is not known yet.
struct Stranger {
    name: String,
    strangers: Arc<Mutex<HashMap<String, usize>>>,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut strangers = lock(&self.strangers);
        if let Some(count) = strangers.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                strangers.remove(&self.name);
            }
        }
    }
}

impl Intake {
    fn seat(&self) -> Result<Arc<()>, BusError> {
        let seat = Arc::clone(&self.calls);
        match Arc::strong_count(&self.calls) > MAX_CALLS + 1 {
            true => Err(too_many()),
            false => Ok(seat),
        }
    }

    fn stranger(&self, name: &str) -> Result<Stranger, BusError> {
        let mut strangers = lock(&self.strangers);
        let all: usize = strangers.values().sum();
        let own = strangers.get(name).copied().unwrap_or_default();
        if all >= MAX_STRANGERS || own >= MAX_OF_STRANGER {
            return Err(too_many());
        }
        strangers.insert(name.to_owned(), own + 1);
        Ok(Stranger {
            name: name.to_owned(),
            strangers: Arc::clone(&self.strangers),
        })
    }
}

impl Bus {
    /// A place for a call that brings what it may bring, as long as there is one.
    pub(super) fn take_in(&self, message: &Message) -> Result<Place, BusError> {
        let header = message.header();
        let (Some(member), Some(sender)) = (header.member(), header.sender()) else {
            return Err(BusError::standard("InvalidArgs", "incomplete call"));
        };
        let named = header.interface().map(|interface| interface.as_str());
        let length = message.body().len();
        let brought = Brought {
            header: message.data().len().saturating_sub(length),
            body: length,
            descriptors: message.data().fds().len(),
        };
        brought.check(Bound::of(named, member.as_str()))?;
        let seat = self.intake.seat()?;
        let whose = match self.clients.known(sender.as_str()) {
            Some(client) => Whose::Known(client.enter(length)?),
            None => Whose::Unknown(self.intake.stranger(sender.as_str())?),
        };
        Ok(Place { whose, _seat: seat })
    }

    /// The caller, whom the bus is asked about at its first call.
    pub(super) fn caller(
        &self,
        link: &Link,
        message: &Message,
        place: &mut Place,
    ) -> Result<Arc<Client>, BusError> {
        let client = match &place.whose {
            Whose::Known(call) => return Ok(Arc::clone(call.client())),
            Whose::Unknown(stranger) => self.clients.of(link, &self.counter, &stranger.name)?,
        };
        // Its place as a stranger is given back.
        place.whose = Whose::Known(client.enter(message.body().len())?);
        Ok(client)
    }
}

/// Lengths in bytes, and a number of descriptors.
#[derive(Clone, Copy, Debug)]
struct Brought {
    header: usize,
    body: usize,
    descriptors: usize,
}

impl Brought {
    fn check(self, bound: Bound) -> Result<(), BusError> {
        let too_much = |text: String| Err(BusError::standard("LimitsExceeded", text));
        if self.header > MAX_HEADER {
            return too_much(format!("a call has a header of at most {MAX_HEADER} bytes"));
        }
        if self.body > bound.body {
            let most = bound.body;
            return too_much(format!("this call takes at most {most} bytes"));
        }
        if self.descriptors > bound.descriptors {
            let most = bound.descriptors;
            return too_much(format!("this call takes at most {most} descriptors"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_brings_is_bounded_before_it_is_decoded() {
        let bound = Bound {
            body: 100,
            descriptors: 2,
        };
        let check = |header, body, descriptors| {
            let brought = Brought {
                header,
                body,
                descriptors,
            };
            brought.check(bound).map_err(|error| error.name())
        };
        assert_eq!(check(MAX_HEADER, 100, 2), Ok(()));
        for (header, body, descriptors) in [
            (MAX_HEADER + 1, 0, 0),
            (0, 101, 0),
            (0, 0, 3),
            (0, 1 << 25, 15),
        ] {
            let refused = check(header, body, descriptors).unwrap_err();
            assert_eq!(refused, "org.freedesktop.DBus.Error.LimitsExceeded");
        }
    }

    #[test]
    fn connections_that_nobody_knows_yet_take_few_places() {
        let intake = Intake::default();
        let mut places: Vec<_> = (0..MAX_OF_STRANGER)
            .map(|_| intake.stranger(":1.7").unwrap())
            .collect();
        assert!(intake.stranger(":1.7").is_err());
        let others = (MAX_OF_STRANGER..MAX_STRANGERS).map(|number| format!(":1.{number}"));
        let others: Vec<_> = others.map(|name| intake.stranger(&name).unwrap()).collect();
        assert!(intake.stranger(":2.1").is_err(), "all places are taken");
        places.pop();
        assert!(intake.stranger(":2.1").is_ok());
        drop((places, others));
        assert!(lock(&intake.strangers).is_empty());
    }

    #[test]
    fn calls_at_work_are_limited() {
        let intake = Intake::default();
        let seats: Vec<_> = (0..MAX_CALLS).map(|_| intake.seat().unwrap()).collect();
        assert!(intake.seat().is_err());
        drop(seats);
        assert!(intake.seat().is_ok());
    }

    /// A number of the packaged unit.
    fn unit(key: &str) -> usize {
        let unit = include_str!("../../../../../packaging/cardea.service");
        let mut lines = unit.lines();
        let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let value = value.unwrap();
        match value.strip_suffix('G') {
            Some(gibibytes) => gibibytes.parse::<usize>().unwrap() << 30,
            None => value.parse().unwrap(),
        }
    }

    #[test]
    fn packaged_unit_allows_what_the_limits_add_up_to_and_says_how_much() {
        use crate::doors::socket::{arrivals, limits, server};
        // Root, pcscd's user and the daemon's own.
        let kept = 3;
        let seated = limits::MAX_CLIENTS + kept * limits::MAX_CLIENTS_OF_USER;
        let leaving = limits::MAX_LEAVING + kept * limits::MAX_LEAVING_OF_USER;
        let connections = seated + leaving;
        // Those that zbus has taken: what waits for us, one in our hands, one that it reads.
        let messages = MAX_UNREAD + 2;
        let threads = connections + MAX_CALLS;
        // One refusal is at work.
        let refused = server::REFUSALS + 1;
        let files = connections * 2
            + arrivals::MAX_WAITING
            + refused
            + MAX_CALLS * (Bound::ORDER.descriptors + 2)
            + messages * 253;
        let memory = connections * cardea_client::message::MAX_FRAME
            + MAX_CALLS * (Bound::ORDER.body + MAX_HEADER)
            + messages * (32 << 20);
        // With room for our own threads, cards, drives and the heap.
        assert!(threads + 100 <= unit("TasksMax"));
        assert!(files + 1000 <= unit("LimitNOFILE"));
        assert!(memory * 2 <= unit("MemoryMax"));
        let text = include_str!("../../../../../packaging/cardea.service").replace("\n# ", " ");
        for number in [
            format!("{seated} connections, {leaving} that were closed"),
            format!("{MAX_CALLS} calls on D-Bus are {threads}."),
            format!("of these {connections} connections"),
            format!("{} connections that wait", arrivals::MAX_WAITING),
            format!("{refused} that are refused"),
            format!("are {},{:03}.", files / 1000, files % 1000),
            format!("are {} MiB.", memory.div_ceil(1 << 20)),
        ] {
            assert!(text.contains(&number), "{number} is not in the unit");
        }
    }
}
