//! Examples at the end of each help and manual page.
//!
//! A test parses every line that begins with `cardea`.

pub(super) const BEGIN: &str = "\
Begin with:
  cardea setup                      asks, and shows each command that it runs
  cardea doctor                     what is missing on this machine
  cardea card create --name Alice   a card, with PIN and PUK
  cardea COMMAND --help             everything about a command, with examples";

pub(super) const CARDEA: &str = "\
Examples:
  cardea setup
  cardea doctor
  cardea card create --name Alice
  cardea key generate Alice --label work
  cardea csr create Alice --key work --subject CN=Alice --out alice.csr
  cardea cert import Alice alice.pem

Exit codes:
  0 done, 1 failed, 2 usage, 3 no daemon or no TPM,
  4 PIN, PUK, response or passphrase wrong, 5 blocked, 6 denied,
  7 not found, 8 ambiguous, 9 card lost, 10 no room, 11 TPM lockout,
  12 busy, 13 declined, 14 no agent, 15 TPM broken";

pub(super) const ATTEST_ENABLE: &str = "\
Examples:
  cardea attest enable Alice
  cardea attest show Alice";

pub(super) const ATTEST_EVIDENCE: &str = "\
Examples:
  cardea attest evidence Alice --out alice.evidence
  cardea attest evidence Alice --key work --nonce 00112233445566778899AABBCCDDEEFF --out alice.evidence";

pub(super) const ATTEST_REQUEST: &str = "\
Examples:
  cardea attest request Alice --out alice.request
  cardea attest answer Alice alice.challenge --out alice.answer
  cardea attest import Alice alice.issued";

pub(super) const ATTEST_VERIFY: &str = "\
Examples:
  cardea attest verify alice.evidence --trust authority.pem
  cardea attest verify alice.evidence --trust authority.pem --nonce 00112233445566778899AABBCCDDEEFF --policy pin-limit=5,level=2,generated";

pub(super) const AUDIT: &str = "\
Examples:
  cardea audit --follow
  cardea audit --verify";

pub(super) const AUTHORITY_CHALLENGE: &str = "\
Examples:
  cardea attest authority challenge alice.request --folder ca --out alice.challenge";

pub(super) const AUTHORITY_INIT: &str = "\
Examples:
  cardea attest authority init --folder ca --subject \"CN=Attestation authority,O=Example\"
  cardea attest authority init --folder ca --key own.key --certificate own.pem";

pub(super) const AUTHORITY_ISSUE: &str = "\
Examples:
  cardea attest authority issue alice.answer --folder ca --out alice.certificate
  cardea attest authority issue alice.answer --folder ca --out alice.certificate --days 730 --within 1440";

pub(super) const AUTHORITY_PIN_ADD: &str = "\
Examples:
  cardea attest authority pin add 00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF --asset \"PC 17\" --folder ca";

pub(super) const AUTHORITY_PIN_IMPORT: &str = "\
Examples:
  cardea attest authority pin import inventory.txt --folder ca";

pub(super) const CARD_ATTACH: &str = "\
Examples:
  cardea card attach /media/alice/STICK";

pub(super) const CARD_BACKUP: &str = "\
Examples:
  cardea card backup Alice --out alice.card";

pub(super) const CARD_CREATE: &str = "\
Examples:
  cardea card create --name Alice
  cardea card create --name Alice --owner alice --pin-policy min=6,digits=required
  cardea card create --name web --owner www-data --pin-file pin --no-puk
  cardea card create --name Carol --attest
  cardea card create --name Bob --admin-key derived:master";

pub(super) const CARD_RENAME: &str = "\
Examples:
  cardea card rename Alice \"Alice (old)\"";

pub(super) const CARD_RESTORE: &str = "\
Examples:
  cardea card restore alice.card --with escrow.key --name Alice
  cardea card restore alice.card --with 'pkcs11:token=Spare' --name Alice";

pub(super) const CARD_SET: &str = "\
Examples:
  cardea card set Alice --pin-pad on
  cardea card set web --reader always";

pub(super) const CERT_ENROL: &str = "\
Examples:
  cardea cert enrol Alice --profile work
  cardea cert enrol Alice --est https://ca.example.org --trust ca.pem --user alice --subject CN=Alice
  cardea cert enrol Alice --cmp http://ca.example.org/pkix/ --trust ca.pem --reference 123 --subject CN=Alice";

pub(super) const CERT_RENEW: &str = "\
Examples:
  cardea cert renew Alice
  cardea cert renew Alice 81 --now";

pub(super) const CERT_IMPORT: &str = "\
Examples:
  cardea cert import Alice alice.pem
  cardea cert import Alice renewed.p7b --key work --keep";

pub(super) const CERT_SELF_SIGN: &str = "\
Examples:
  cardea cert self-sign Alice --key work --subject CN=Alice --days 30";

pub(super) const CERT_SHOW: &str = "\
Examples:
  cardea cert show Alice work
  cardea cert show Alice --sha256 0A1B2C3D --json";

pub(super) const COMPLETIONS: &str = "\
Examples:
  cardea completions bash > /usr/share/bash-completion/completions/cardea
  cardea completions zsh > /usr/share/zsh/vendor-completions/_cardea
  cardea completions fish > /usr/share/fish/vendor_completions.d/cardea.fish";

pub(super) const CSR_CREATE: &str = "\
Examples:
  cardea csr create Alice --key work --subject CN=Alice --out alice.csr
  cardea csr create Alice --key work --subject CN=Alice --san upn:alice@EXAMPLE.ORG --eku smartcardLogon
  cardea csr create Alice --key work --subject CN=Alice --attest --out alice.csr";

pub(super) const KEY_GENERATE: &str = "\
Examples:
  cardea key generate Alice --label work
  cardea key generate Alice --algorithm p-256 --label ssh --pin-every-time
  cardea key generate Alice --label mail --recoverable-by escrow.pem";

pub(super) const KEY_IMPORT: &str = "\
Examples:
  cardea key import Alice mail.p12 --label mail";

pub(super) const KEY_LIST: &str = "\
Examples:
  cardea key list Alice
  cardea key list Alice --wide";

pub(super) const PIN_UNBLOCK: &str = "\
Examples:
  cardea pin unblock Alice
  cardea pin unblock Alice --admin
  cardea pin unblock Alice --admin-key-file admin-key";

pub(super) const PIN_VERIFY: &str = "\
Examples:
  cardea pin verify Alice
  cardea pin verify Alice --pin-fd 3 3</run/pin";

pub(super) const READER_CONF: &str = "\
Examples:
  cardea reader-conf > /etc/reader.conf.d/cardea";

pub(super) const REDIRECT: &str = "\
Examples:
  cardea redirect dev1
  cardea redirect dev1 --card Alice --consent -- -p 2222";

pub(super) const SETUP: &str = "\
Every question has a usual answer, and every step is another command that is
shown before it runs. Control-C ends the walk at any question; the same
command goes on with what is there.

Examples:
  cardea setup";

pub(super) const RESPOND: &str = "\
Examples:
  cardea helpdesk respond --challenge \"0123 4567 89AB CDEF\" --admin-key-file admin-key";
