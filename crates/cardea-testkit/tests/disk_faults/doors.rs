//! The doors, and what one needs at each of them.

use cardea_client::message::{AdminAnswer, CardRequest, Reply};
use cardea_terms::Visibility;
use cardea_testkit::bus::{BusClient, Dictionary, ROOT};
use serde::Serialize;
use zbus::OwnedObjectPath;

use crate::walk::Told;
use crate::world::{CARD, World, secret, told};

pub(crate) const BUS: &str = "D-Bus";
pub(crate) const COMMAND_LINE: &str = "command line";
pub(crate) const PKCS11: &str = "PKCS#11";
pub(crate) const READER: &str = "reader";
pub(crate) const SOCKET: &str = "socket";

/// A short command with these values after each other.
pub(crate) fn apdu(header: [u8; 4], values: &[&str]) -> Vec<u8> {
    let data = values.concat();
    let length = u8::try_from(data.len()).unwrap();
    [&header[..], &[length], data.as_bytes()].concat()
}

pub(crate) fn hexadecimal(key: &str) -> String {
    key.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// The administrator's answer to a challenge.
pub(crate) fn answer(world: &World, challenge: &[u8]) -> [u8; 8] {
    let mut block: [u8; 8] = challenge.try_into().unwrap();
    let key = cardea_tpm::AdminKey::new(world.admin_key.now.as_bytes()).unwrap();
    key.encrypt(&mut block);
    block
}

/// A challenge over the socket and its answer.
pub(crate) fn answered(world: &World) -> Result<AdminAnswer, Told> {
    match world.ask_card(CardRequest::AdminChallenge) {
        Ok(Reply::Challenge(challenge)) => Ok(AdminAnswer {
            response: secret(answer(world, &challenge)),
            challenge,
        }),
        other => Err(told(other)),
    }
}

/// EXTERNAL AUTHENTICATE at the reader, then these commands.
pub(crate) fn administered(world: &World, commands: &[Vec<u8>]) -> Told {
    let mut card = world.reader();
    let choose = vec![0, 0x22, 0xC1, 0xA4, 3, 0x83, 1, 0x80];
    let challenge = vec![0, 0x87, 0, 0, 4, 0x7C, 2, 0x81, 0, 0];
    let challenge = match sent(&mut card, &[choose, challenge]) {
        (Told::Done, response) => response,
        (failed, _) => return failed,
    };
    let response = answer(world, &challenge[4..12]);
    let authenticate = [&[0, 0x87, 0, 0, 0x0C, 0x7C, 0x0A, 0x82, 8][..], &response].concat();
    sent(&mut card, &[&[authenticate], commands].concat()).0
}

/// Sends commands up to the first that is refused, after which nobody sends the next one. The last response decides,
/// and is returned.
pub(crate) fn sent(
    card: &mut impl FnMut(&[u8]) -> Vec<u8>,
    commands: &[Vec<u8>],
) -> (Told, Vec<u8>) {
    let mut last = Vec::new();
    for command in commands {
        last = card(command);
        if !last.ends_with(&[0x90, 0x00]) {
            break;
        }
    }
    let told = match last.as_slice() {
        [.., 0x90, 0x00] => Told::Done,
        [.., high, low] => Told::Failed(format!("{high:02X}{low:02X}")),
        _ => panic!("{last:?}"),
    };
    (told, last)
}

/// VERIFY with the card's PIN.
pub(crate) fn verify(world: &World) -> Vec<u8> {
    apdu([0, 0x20, 0, 0x80], &[&world.pin.now])
}

/// SELECT of a file.
pub(crate) fn select([high, low]: [u8; 2]) -> Vec<u8> {
    vec![0, 0xA4, 0, 0x0C, 2, high, low]
}

/// DELETE FILE at the reader.
pub(crate) fn delete_file(world: &World, file: [u8; 2]) -> Told {
    world.transmit(&[verify(world), select(file), vec![0, 0xE4, 0, 0]])
}

/// Path of the card on the bus.
pub(crate) fn card_path(world: &World) -> String {
    match world.done_card(CardRequest::Show) {
        Reply::Card(card) => format!("{ROOT}/cards/{}", card.summary.card_id),
        other => panic!("{other:?}"),
    }
}

/// A method of the card's on the bus.
pub(crate) fn bus<B>(world: &World, member: &str, body: &B) -> Told
where
    B: Serialize + zbus::DynamicType + Sync,
{
    refused(world.bus().call(&card_path(world), member, body))
}

pub(crate) fn refused<T>(answer: Result<T, (String, String)>) -> Told {
    match answer {
        Ok(_) => Told::Done,
        Err((name, text)) => Told::Failed(format!("{name}: {text}")),
    }
}

/// A challenge context or a request of the client that has it.
pub(crate) struct BusObject {
    client: BusClient,
    path: String,
}

/// Has one made.
pub(crate) fn bus_object(world: &World, member: &str) -> Result<BusObject, Told> {
    let client = world.bus();
    let card = card_path(world);
    let made: Result<OwnedObjectPath, _> = if member.ends_with("GetChallengeContext") {
        client.get(&card, member, &())
    } else {
        client.get(&card, member, &Dictionary::new())
    };
    match made {
        Ok(path) => Ok(BusObject {
            client,
            path: path.to_string(),
        }),
        Err(error) => Err(refused::<()>(Err(error))),
    }
}

impl BusObject {
    pub(crate) fn challenge(&self, interface: &str) -> Vec<u8> {
        let value = self
            .client
            .property(&self.path, interface, "Challenge")
            .unwrap();
        value.try_into().unwrap()
    }

    /// Calls a method that must succeed.
    pub(crate) fn call<B>(&self, member: &str, body: &B)
    where
        B: Serialize + zbus::DynamicType + Sync,
    {
        self.client.call(&self.path, member, body).unwrap();
    }

    pub(crate) fn told<B>(&self, member: &str, body: &B) -> Told
    where
        B: Serialize + zbus::DynamicType + Sync,
    {
        refused(self.client.call(&self.path, member, body))
    }
}

/// Runs a command of the command line on the card, with the file of its PIN.
pub(crate) fn with_pin(world: &World, words: &[&str]) -> Told {
    let pin = world.file("pin", &world.pin.now);
    let (command, rest) = words.split_at(2);
    world.cardea(&[command, &[CARD], rest, &["--pin-file", &pin]].concat())
}

/// Whether the card's PIN is typed at the agent, and when it is in its reader.
pub(crate) fn shown(world: &World) -> (bool, Visibility) {
    match world.done_card(CardRequest::Show) {
        Reply::Card(card) => (card.pin_pad, card.visibility),
        other => panic!("{other:?}"),
    }
}
