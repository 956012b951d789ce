//! What cards can do on the TPMs that people have: one card's life through PKCS#11 on each part that the multiplexer
//! plays, in the mode that the part has room and counters for.
//!
//! `docs/tpms.md` has a row for each, and `shown` what `cardea tpm status` and `cardea doctor` say there;
//! `CARDEA_RECORD=1` writes them. `cargo xtask tpms` runs more than this over each.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod life;
mod page;
mod shown;

use cardea_testkit::multiplexer::Profile;
use cardea_testkit::process::Outcome;
use cardea_testkit::workplace::Workplace;
use serde_json::Value;

use life::live;

/// What `card create` is asked for, from what promises most to what promises least.
const MODES: [(&str, &[&str]); 2] = [
    ("NV mode", &[]),
    ("object mode", &["--counter-mode", "object"]),
];

/// What the table calls a card's counter mode.
fn mode_of(workplace: &Workplace, name: &str) -> &'static str {
    let shown = workplace.daemon.printed(&["card", "show", name, "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    match shown.get("counter_mode").and_then(Value::as_str) {
        Some("nv") => "NV mode",
        Some("nv-owner") => "NV mode, read by the owner",
        Some("object") => "object mode",
        _ => panic!("{shown}"),
    }
}

/// More cards than this are not made to see how many fit.
const MANY: usize = 10;

/// The row of a part: what its cards are and can.
fn row(name: &str) -> String {
    let workplace = Workplace::playing(Profile::named(name));
    let mut refusals = Vec::new();
    let mut chosen = None;
    for (mode, arguments) in MODES {
        let made = create(&workplace, "Alice", arguments);
        if made.success {
            chosen = Some((mode_of(&workplace, "Alice"), arguments));
            break;
        }
        refusals.push(format!("{mode}: {}", cause(&made.text)));
    }
    shown::compare(name, &workplace);
    let status = status(&workplace);
    let lockout = |member| status.pointer(&format!("/lockout/{member}")).unwrap();
    let lockout = format!(
        "{} failures, {} s",
        lockout("max"),
        lockout("recovery_seconds")
    );
    let Some((mode, arguments)) = chosen else {
        let why = refusals.join("; ");
        return format!("| `{name}` | refused | – | – | {lockout} | {why} |");
    };
    let keys = live(&workplace);
    let fit = fitting(&workplace, arguments);
    let why = refusals.join("; ");
    format!("| `{name}` | {mode} | {keys} | {fit} | {lockout} | {why} |")
}

fn create(workplace: &Workplace, name: &str, further: &[&str]) -> Outcome {
    let (pin, puk) = (workplace.text("pin"), workplace.text("puk"));
    let create = ["card", "create", "--name", name, "--pin-file", &pin];
    let arguments = [&create[..], &["--puk-file", &puk], further].concat();
    workplace.daemon.cardea(&arguments)
}

/// Why a card was not made, without the ways out.
fn cause(refusal: &str) -> String {
    let mut lines = refusal.lines();
    let line = lines.find_map(|line| line.strip_prefix("cardea: "));
    let cause = line.unwrap_or(refusal);
    let cause = cause.split("; ").next().unwrap_or(cause);
    let cause = cause.split(" (").next().unwrap_or(cause);
    cause.replace('|', "/")
}

fn status(workplace: &Workplace) -> Value {
    let printed = workplace.daemon.printed(&["tpm", "status", "--json"]);
    serde_json::from_str(&printed).unwrap()
}

/// How many more cards with a PUK fit, beside the first.
fn fitting(workplace: &Workplace, arguments: &[&str]) -> String {
    let more = (1..MANY).take_while(|number| {
        let made = create(workplace, &format!("card {number}"), arguments);
        if !made.success {
            // A card less, and nothing of it left.
            assert!(made.text.contains("no room"), "{}", made.text);
        }
        made.success
    });
    match more.count() + 1 {
        MANY => format!("{MANY} or more"),
        fewer => fewer.to_string(),
    }
}

macro_rules! parts {
    ($($test:ident: $name:literal),* $(,)?) => {
        /// Short names of the parts that are tried.
        const PARTS: &[&str] = &[$($name),*];

        $(
            #[test]
            fn $test() {
                page::compare($name, &row($name));
            }
        )*
    };
}

parts! {
    amd_3: "amd-3",
    amd_6: "amd-6",
    npct65x: "npct65x",
    npct75x_7_2_0: "npct75x-7.2.0",
    npct75x_7_2_1: "npct75x-7.2.1",
    npct75x_7_2_3: "npct75x-7.2.3",
    pluton: "pluton",
    ptt_303: "ptt-303",
    ptt_403: "ptt-403",
    ptt_500_5: "ptt-500.5",
    ptt_600: "ptt-600",
    slb9665: "slb9665",
    slb9670_7_40: "slb9670-7.40",
    slb9670_7_83: "slb9670-7.83",
    slb9670_7_85: "slb9670-7.85",
    st33_1_769: "st33-1.769",
    st33_73_4: "st33-73.4",
    st33_74_8: "st33-74.8",
    swtpm: "swtpm",
}

#[test]
fn every_profile_is_tried() {
    assert!(Profile::names().eq(PARTS.iter().copied()));
}
