//! [`SlotRequest::Transmit`](crate::message::SlotRequest::Transmit) and its answer, coded by hand from and to the
//! caller's buffers: the same bytes as the derived coding, without copies of what may be a PIN or a plain text.

use minicbor::{Decoder, Encoder};

use crate::buffer::{Buffer, Overflow};
use crate::frame::{FrameError, exactly};
use crate::message::{Failure, Reply};

/// Index of `Request::Slot`.
const SLOT: u8 = 6;

/// Index of `SlotRequest::Transmit`.
const TRANSMIT: u8 = 1;

/// Index of `Reply::Response`.
const RESPONSE: u32 = 9;

pub(crate) fn encode(
    slot: u8,
    apdu: &[u8],
    buffer: &mut Buffer,
) -> Result<(), minicbor::encode::Error<Overflow>> {
    Encoder::new(buffer)
        .array(2)?
        .u8(SLOT)?
        .array(2)?
        .u8(slot)?
        .array(2)?
        .u8(TRANSMIT)?
        .array(1)?
        .bytes(apdu)?
        .ok()
}

/// Passes the response to `take`, which is used up, or gives the refusal.
pub(crate) fn decode<T>(
    content: &[u8],
    take: &mut Option<impl FnOnce(&[u8]) -> T>,
) -> Result<Result<T, Failure>, FrameError> {
    if let Some(bytes) = response_bytes(content)
        && let Some(take) = take.take()
    {
        return Ok(Ok(take(bytes)));
    }
    match exactly(content)? {
        Reply::Failed(failure) => Ok(Err(failure)),
        _ => Err(FrameError::Malformed(minicbor::decode::Error::message(
            "unexpected reply to this request",
        ))),
    }
}

fn response_bytes(content: &[u8]) -> Option<&[u8]> {
    let mut decoder = Decoder::new(content);
    let right = decoder.array().ok()? == Some(2)
        && decoder.u32().ok()? == RESPONSE
        && decoder.array().ok()? == Some(1);
    let bytes = decoder.bytes().ok().filter(|_| right)?;
    (decoder.position() == content.len()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use minicbor::to_vec;

    use super::*;
    use crate::message::{FailureKind, Request, SecretBytes, SlotRequest};

    #[test]
    fn hand_written_request_is_the_derived_one() {
        for length in [0, 4, 23, 24, 255, 256, 65_544] {
            let apdu = vec![7; length];
            let mut buffer = Buffer::default();
            encode(13, &apdu, &mut buffer).unwrap();
            let request = Request::slot(
                13,
                SlotRequest::Transmit {
                    apdu: SecretBytes::new(apdu),
                },
            );
            assert_eq!(buffer.filled(), to_vec(&request).unwrap());
        }
    }

    fn response_of(content: &[u8]) -> Result<Result<Vec<u8>, Failure>, FrameError> {
        decode(content, &mut Some(|bytes: &[u8]| bytes.to_vec()))
    }

    #[test]
    fn response_goes_to_the_caller() {
        for response in [vec![], vec![0x6A, 0x82], vec![5; 65_538]] {
            let reply = to_vec(Reply::Response(SecretBytes::new(response.clone()))).unwrap();
            assert_eq!(response_of(&reply).unwrap().unwrap(), response);
        }
    }

    #[test]
    fn refusals_are_given_back_and_anything_else_is_an_error() {
        let failure = Failure {
            kind: FailureKind::NotFound,
            message: "there is no card in this slot".into(),
            tries_left: None,
        };
        let refused = to_vec(Reply::Failed(failure.clone())).unwrap();
        assert_eq!(response_of(&refused).unwrap().unwrap_err(), failure);
        let mut longer = to_vec(Reply::Response(SecretBytes::new(vec![0x90, 0]))).unwrap();
        longer.push(0);
        for wrong in [to_vec(Reply::Done).unwrap(), longer, vec![], vec![0xFF; 9]] {
            assert!(response_of(&wrong).is_err());
        }
    }
}
