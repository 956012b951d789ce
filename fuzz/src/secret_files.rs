//! The files of secrets of the service for other machines: keytab and accounts.

use cardea_rpc::auth::{Directory, Keytab};
use cardea_tpmvsc::accounts::{Accounts, check_name};

use crate::Target;
use crate::authentication::keytab;

/// A byte that says which file, and the file.
pub const TARGET: Target = Target {
    name: "secret_files",
    run,
    seeds,
    words: &[
        b"ntlm ",
        b"kerberos - ",
        b"a4f49c406510bdcab6824ee7c30fd852 ",
        b"@FIRM.EXAMPLE\n",
        b"\x05\x02\x00\x00\x00",
        b"\xff\xff\xff\xf9",
        b"\x00\x12\x00\x20",
        b"\x00\x11\x00\x10",
    ],
};

fn run(input: &[u8]) {
    match input.split_first() {
        Some((0, file)) => {
            if let Ok(keytab) = Keytab::parse(file) {
                assert!(keytab.services().len() <= file.len() / 16);
            }
        }
        Some((1, file)) => {
            let Ok(text) = std::str::from_utf8(file) else {
                return;
            };
            match Accounts::parse(text) {
                Ok(accounts) => found(&accounts, text),
                Err((line, _)) => assert!((1..=text.lines().count()).contains(&line)),
            }
        }
        _ => {}
    }
}

/// Every line is an account, and is found by its name.
fn found(accounts: &Accounts, text: &str) {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut count = 0;
    for line in lines {
        count += 1;
        let mut words = line.splitn(2, char::is_whitespace);
        let (mechanism, rest) = (words.next(), words.next().unwrap_or_default());
        let name = rest.trim_start().split_once(char::is_whitespace);
        let name = name.map(|(_, name)| name.trim()).unwrap_or_default();
        if mechanism == Some("ntlm") {
            assert!(check_name(name).is_ok());
            assert!(accounts.nt_hash(name).is_some(), "{name:?} is not found");
        }
    }
    assert_eq!(accounts.count(), count);
}

fn seeds() -> Vec<Vec<u8>> {
    let accounts = b"# The help desk\n\nntlm a4f49c406510bdcab6824ee7c30fd852 ann\n\
        ntlm a4f49c406510bdcab6824ee7c30fd852 M\xc3\xbcller \nkerberos - bob/admin@FIRM.EXAMPLE\n";
    vec![
        [&[0], &*keytab()].concat(),
        [&[0][..], &keytab()[..60]].concat(),
        [&[1][..], accounts].concat(),
    ]
}
