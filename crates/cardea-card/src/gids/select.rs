//! SELECT (GIDS 2.0; ISO 7816-4).

use super::{Gids, Selection, State, files, templates};
use crate::engine::{Application, Card, Command, Failure, Reply};

/// Executes the command. A failed SELECT leaves everything as it was: Windows probes for PIV in the
/// middle of its work.
pub(super) fn select(
    card: &mut Card,
    state: &mut State,
    command: &Command<'_>,
) -> Result<Reply, Failure> {
    let (form, occurrence) = parse_p2(command.p2)?;
    match (command.p1, command.data) {
        (0x04, []) => Err(Failure::SelectLength),
        (0x04, name) => {
            if !Gids.is_named(name) || occurrence == Occurrence::Next {
                return Err(Failure::FileNotFound);
            }
            state.selection = Selection::None;
            Ok(answer(df_template(card, form)))
        }
        (0x00, []) => {
            let file = walk(card, state.selection, occurrence).ok_or(Failure::FileNotFound)?;
            state.selection = Selection::File(file);
            Ok(answer(file_template(card, file, form)?))
        }
        (0x00 | 0x02, &[high, low]) => {
            if occurrence == Occurrence::Next {
                return Err(Failure::FileNotFound);
            }
            match u16::from_be_bytes([high, low]) {
                0x0000 => {
                    let Selection::File(file) = state.selection else {
                        return Err(Failure::FileNotFound);
                    };
                    Ok(answer(file_template(card, file, form)?))
                }
                0x3FFF => {
                    state.selection = Selection::Df;
                    Ok(answer(df_template(card, form)))
                }
                file => {
                    let template = file_template(card, file, form)?;
                    state.selection = Selection::File(file);
                    Ok(answer(template))
                }
            }
        }
        (0x00 | 0x02, _) => Err(Failure::SelectLength),
        // Selection by path (08, 09): OpenSC tries it when binding PKCS#15.
        _ => Err(Failure::Parameters),
    }
}

/// Which template is asked for.
#[derive(Clone, Copy)]
enum Form {
    Fci,
    Fcp,
    Fmd,
    Nothing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Occurrence {
    First,
    Next,
}

fn parse_p2(p2: u8) -> Result<(Form, Occurrence), Failure> {
    let form = match p2 & 0x0C {
        0x00 => Form::Fci,
        0x04 => Form::Fcp,
        0x08 => Form::Fmd,
        _ => Form::Nothing,
    };
    match p2 & 0xF3 {
        0x00 => Ok((form, Occurrence::First)),
        0x02 => Ok((form, Occurrence::Next)),
        _ => Err(Failure::Parameters),
    }
}

/// The first elementary file, or the one after the current.
fn walk(card: &Card, selection: Selection, occurrence: Occurrence) -> Option<u16> {
    let files = &card.record().gids.files;
    let index = match (occurrence, selection) {
        (Occurrence::Next, Selection::File(current)) => {
            files.iter().position(|file| file.id == current)? + 1
        }
        _ => 0,
    };
    files.get(index).map(|file| file.id)
}

fn df_template(card: &Card, form: Form) -> Option<Vec<u8>> {
    match form {
        Form::Fci => Some(templates::fci()),
        Form::Fcp => Some(templates::fcp_of_df(&card.record().gids)),
        Form::Fmd => Some(templates::fmd_of_df()),
        Form::Nothing => None,
    }
}

fn file_template(card: &Card, file: u16, form: Form) -> Result<Option<Vec<u8>>, Failure> {
    let file = files::find(card, file).ok_or(Failure::FileNotFound)?;
    Ok(match form {
        Form::Fci | Form::Fcp => Some(templates::fcp_of_file(file)),
        Form::Fmd => Some(templates::fmd_of_file()),
        Form::Nothing => None,
    })
}

/// Windows omits Le and wants the template all the same.
fn answer(template: Option<Vec<u8>>) -> Reply {
    template.map_or(Reply::Done, Reply::data)
}

#[cfg(test)]
mod tests {
    use super::super::AID;
    use super::*;

    #[test]
    fn names_match_by_prefix_of_5_to_11_bytes() {
        assert!(Gids.is_named(&AID[..5]) && Gids.is_named(&AID[..9]) && Gids.is_named(AID));
        assert!(
            !Gids.is_named(&AID[..4]),
            "shorter than a registered provider"
        );
        assert!(!Gids.is_named(&AID[1..]), "a part, but not the beginning");
        let mut longer = AID.to_vec();
        longer.push(0);
        assert!(!Gids.is_named(&longer));
    }
}
