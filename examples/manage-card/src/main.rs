//! Everything that an application can do with virtual smart cards on D-Bus, step by step: makes a card,
//! personalises it, changes and diversifies its administrator's key, changes its PIN, resets it, and destroys the
//! card. Needs the right to create and destroy cards.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "tells what it does")]

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use des::TdesEde3;
use des::cipher::{BlockCipherEncrypt, KeyInit};
use hmac::{Hmac, Mac};
use serde::Serialize;
use sha2::Sha256;
use zbus::wire::DynamicDeserialize;
use zbus::{Connection, DynamicType, Fd, OwnedObjectPath, OwnedVariant, Variant};

const SERVICE: &str = "org.cardea.VirtualSmartCard1";
const ROOT: &str = "/org/cardea/VirtualSmartCard1";

type Options = HashMap<&'static str, Variant<'static>>;

/// The service.
struct Bus(Connection);

impl Bus {
    fn call<B, T>(&self, path: &str, interface: &str, method: &str, body: &B) -> Result<T>
    where
        B: Serialize + DynamicType,
        T: for<'a> DynamicDeserialize<'a>,
    {
        let interface = match interface.contains('.') {
            true => interface.to_owned(),
            false => format!("{SERVICE}.{interface}"),
        };
        let call = self
            .0
            .call_method(Some(SERVICE), path, Some(interface.as_str()), method, body);
        let answer = zruntime::block_on(call).with_context(|| method.to_owned())?;
        Ok(answer.body().deserialize()?)
    }

    fn get(&self, path: &str, interface: &str, name: &str) -> Result<OwnedVariant> {
        let interface = format!("{SERVICE}.{interface}");
        self.call(
            path,
            "org.freedesktop.DBus.Properties",
            "Get",
            &(interface, name),
        )
    }

    /// Something that takes its time, to its end.
    fn operate(
        &self,
        method: &str,
        name: &str,
        options: &Options,
    ) -> Result<HashMap<String, OwnedVariant>> {
        let path: OwnedObjectPath = self.call(ROOT, "Manager", method, &(name, options))?;
        let path = path.as_str();
        while !bool::try_from(self.get(path, "Operation", "Finished")?)? {
            thread::park_timeout(Duration::from_millis(50));
        }
        let error = String::try_from(self.get(path, "Operation", "ErrorMessage")?)?;
        ensure!(error.is_empty(), "{method}: {error}");
        Ok(HashMap::try_from(self.get(path, "Operation", "Result")?)?)
    }

    /// A challenge context in which the administrator is authenticated.
    fn administer(&self, card: &str, key: &[u8; 24]) -> Result<String> {
        let context: OwnedObjectPath =
            self.call(card, "Provisioning", "GetChallengeContext", &())?;
        let challenge = self.get(context.as_str(), "ChallengeContext", "Challenge")?;
        let response = secret(&respond(key, challenge)?)?;
        let right: bool = self.call(
            context.as_str(),
            "ChallengeContext",
            "VerifyResponse",
            &response,
        )?;
        ensure!(right, "the admin key is not right");
        Ok(context.to_string())
    }

    fn change_key(&self, context: &str, key: &[u8; 24]) -> Result<()> {
        let method = "ChangeAdministrativeKey";
        // The context is authenticated: no new response.
        self.call(
            context,
            "ChallengeContext",
            method,
            &(secret(b"")?, secret(key)?),
        )
    }
}

fn main() -> Result<()> {
    let bus = Bus(zruntime::block_on(Connection::system())?);
    let (pin, new_pin) = (random_pin()?, random_pin()?);
    let key = random()?;

    println!("1. Create a card");
    let options: Options = [
        ("admin-key", Variant::from("supplied")),
        (
            "admin-key-fd",
            Fd::from(OwnedFd::from(secret(&key)?)).into(),
        ),
        ("pin-fd", Fd::from(OwnedFd::from(secret(&pin)?)).into()),
    ]
    .into();
    let mut made = bus.operate("CreateCard", "Example", &options)?;
    let card: OwnedObjectPath = made.remove("card").context("no card")?.try_into()?;
    let card = card.as_str();
    let instance = String::try_from(bus.get(card, "Card", "InstanceId")?)?;
    println!("   {instance}");

    println!("2. Personalise it: a fresh file system");
    let context = bus.administer(card, &key)?;
    let () = bus.call(
        &context,
        "ChallengeContext",
        "Provision",
        &(secret(b"")?, true, ""),
    )?;

    println!("3. Change the admin key");
    let changed = random()?;
    bus.change_key(&context, &changed)?;
    let () = bus.call(&context, "ChallengeContext", "Close", &())?;

    println!("4. Diversify the admin key: another one for each card, from one master secret");
    let card_id = String::try_from(bus.get(card, "Card", "CardId")?)?;
    let key = diversified(&random::<32>()?, &card_id)?;
    let context = bus.administer(card, &changed)?;
    bus.change_key(&context, &key)?;
    let () = bus.call(&context, "ChallengeContext", "Close", &())?;

    println!("5. Change the PIN");
    let () = bus.call(
        card,
        "Provisioning",
        "ChangePin",
        &(secret(&pin)?, secret(&new_pin)?),
    )?;

    println!("6. Reset the PIN, as a help desk does");
    let request: OwnedObjectPath =
        bus.call(card, "Provisioning", "RequestPinReset", &Options::new())?;
    let request = request.as_str();
    let challenge = bus.get(request, "PinResetRequest", "Challenge")?;
    let response = secret(&respond(&key, challenge)?)?;
    let () = bus.call(request, "PinResetRequest", "SetResponse", &response)?;
    let () = bus.call(request, "PinResetRequest", "SetNewPin", &secret(&pin)?)?;
    if !bus.call::<_, bool>(request, "PinResetRequest", "Complete", &())? {
        bail!("the PIN was not reset");
    }

    println!("7. Destroy the card");
    bus.operate("DestroyCard", &instance, &Options::new())?;
    println!("done");
    Ok(())
}

/// Secrets travel as file descriptors, never in messages.
fn secret(bytes: &[u8]) -> Result<zbus::OwnedFd> {
    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(bytes)?;
    Ok(OwnedFd::from(reader).into())
}

/// The administrator's answer to a challenge: TDEA of one block.
fn respond(key: &[u8; 24], challenge: OwnedVariant) -> Result<[u8; 8]> {
    let challenge: Vec<u8> = challenge.try_into()?;
    let mut block: [u8; 8] = challenge.as_slice().try_into()?;
    TdesEde3::new(key.into()).encrypt_block((&mut block).into());
    Ok(block)
}

/// A key for one card from a master secret: SP 800-108, counter mode, HMAC-SHA256.
fn diversified(master: &[u8], card_id: &str) -> Result<[u8; 24]> {
    let digits = card_id.replace('-', "");
    let context = u128::from_str_radix(&digits, 16)?.to_be_bytes();
    let mut mac = Hmac::<Sha256>::new_from_slice(master)?;
    mac.update(&1_u32.to_be_bytes());
    mac.update(b"Cardea admin key\0");
    mac.update(&context);
    mac.update(&(8 * 24_u32).to_be_bytes());
    let output = mac.finalize().into_bytes();
    Ok(*output.first_chunk().context("a digest of 32 bytes")?)
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(bytes)
}

/// Eight digits.
fn random_pin() -> Result<Vec<u8>> {
    let number = u64::from_be_bytes(random()?) % 100_000_000;
    Ok(format!("{number:08}").into_bytes())
}
