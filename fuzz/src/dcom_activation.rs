//! Properties of an activation, which are structures in frames in a blob in a reference.

use cardea_dcom::dcom::InterfacePointer;

use crate::Target;
use crate::dcom_message::{activation_pointers, properties_in, properties_out};

/// A byte that says whether it is a question or an answer, and a reference.
pub const TARGET: Target = Target {
    name: "dcom_activation",
    run,
    seeds,
    words: &[
        b"MEOW\x04\x00\x00\x00",
        b"\x01\x10\x08\x00\xcc\xcc\xcc\xcc",
        b"\xa4\x01\x00\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x46",
        b"\xaa\x01\x00\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x46",
        b"\xab\x01\x00\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x46",
        b"\xad\x01\x00\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x46",
        b"\xb6\x01\x00\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x46",
        b"\x39\x03\x00\x00\x00\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x46",
    ],
};

fn run(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else {
        return;
    };
    let pointer = InterfacePointer(bytes.to_vec());
    match kind % 2 {
        0 => properties_in(&pointer),
        _ => properties_out(&pointer),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let [question, answer] = activation_pointers();
    vec![[&[0], &*question.0].concat(), [&[1], &*answer.0].concat()]
}
