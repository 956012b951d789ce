//! What a card in object mode does not promise, said before it is made.

/// Who can do what, in the words of docs/threat-model.md ("Cards in object mode"), where each has the attack that shows it.
const LIMITS: [(&str, &str); 4] = [
    (
        "whoever has kept an older copy of the card file or of the drive that it is on, and has the machine",
        "use the card with the PIN, the PUK or the admin key and with the tries that it had then, also after a change, an unblocking or the destruction of the card",
    ),
    (
        "whoever has the card file and the TPM device",
        "guess past the card's own count, as fast as the TPM's lockout allows",
    ),
    (
        "root, with an empty lockout authorisation",
        "reset the lockout between guesses, and so guess without a limit but the TPM's speed (`cardea tpm provision` sets one)",
    ),
    (
        "another program, or a user of another such card",
        "use up the failures that the lockout allows, and so keep every such card waiting",
    ),
];

/// The lines that whoever makes such a card reads first.
pub(crate) fn lines_of_limits() -> impl Iterator<Item = String> {
    let head = [
        "note: this card is in object mode: its PIN, its PUK and its count of wrong ones are in its file, under the TPM's lockout",
        "  and not in counters of the TPM. Its keys stay in the TPM, but:",
    ];
    let limits = LIMITS.map(|(who, can)| format!("  - {who}, can {can}"));
    head.map(str::to_owned).into_iter().chain(limits)
}
