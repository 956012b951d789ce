//! `cardea tpm …`

use cardea_client::message::{Reply, Request, TpmStatus};
use serde_json::{Value, json};

use crate::arguments::{OutputArguments, TpmVerb};
use crate::connection::Connection;
use crate::exit::Failure;
use crate::output::{print, print_json, printable};

pub(crate) fn run(verb: &TpmVerb, connection: &mut Connection) -> Result<(), Failure> {
    match verb {
        TpmVerb::Status { output } => status(*output, connection),
    }
}

fn status(output: OutputArguments, connection: &mut Connection) -> Result<(), Failure> {
    let status = match connection.call(&Request::TpmStatus, "asking the TPM")? {
        Reply::Tpm(status) => status,
        _ => return Err(Connection::unexpected()),
    };
    if output.json {
        print_json(&to_json(&status))?;
    } else {
        print(&to_text(&status))?;
    }
    Ok(())
}

fn to_json(status: &TpmStatus) -> Value {
    json!({
        "address": status.address,
        "manufacturer": status.manufacturer,
        "vendor": status.vendor,
        "firmware": firmware(status.firmware),
        "revision": f64::from(status.revision) / 100.0,
        "transient_slots": status.transient_slots,
        "algorithms": status.algorithms,
        "owner_auth_set": status.owner_auth_set,
        "lockout_auth_set": status.lockout_auth_set,
        "lockout": {
            "locked": status.in_lockout,
            "count": status.lockout_count,
            "max": status.lockout_max,
            "recovery_seconds": status.lockout_recovery,
        },
    })
}

fn to_text(status: &TpmStatus) -> String {
    let set = |set: bool| if set { "set" } else { "empty" }.to_owned();
    let lockout = format!(
        "{}{} of {} failures, one forgotten every {} s",
        if status.in_lockout {
            "locked out, "
        } else {
            ""
        },
        status.lockout_count,
        status.lockout_max,
        status.lockout_recovery
    );
    [
        ("address", printable(&status.address)),
        (
            "maker",
            format!(
                "{} {}",
                printable(&status.manufacturer),
                printable(&status.vendor)
            )
            .trim_end()
            .to_owned(),
        ),
        ("firmware", firmware(status.firmware)),
        (
            "revision",
            format!("{}.{:02}", status.revision / 100, status.revision % 100),
        ),
        ("object slots", status.transient_slots.to_string()),
        ("algorithms", status.algorithms.join(", ")),
        ("owner auth", set(status.owner_auth_set)),
        ("lockout auth", set(status.lockout_auth_set)),
        ("lockout", lockout),
    ]
    .iter()
    .map(|(label, value)| format!("{:<15}{value}\n", format!("{label}:")))
    .collect()
}

/// Four 16-bit parts, as vendors write them.
fn firmware(version: u64) -> String {
    let part = |shift: u32| (version >> shift) & 0xFFFF;
    format!("{}.{}.{}.{}", part(48), part(32), part(16), part(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_is_four_numbers() {
        assert_eq!(firmware(0x0001_0002_000A_FFFF), "1.2.10.65535");
    }
}
