//! Hexadecimal with variables, and patterns of it.

use super::{Variables, hex};

/// Bytes with variables in them.
#[derive(Clone, Debug)]
pub(super) struct Hex(Vec<Element>);

/// What a response must look like.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Vec<Element>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Element {
    AnyByte,
    Byte(u8),
    /// Defines a variable; without length it takes what the rest leaves over.
    Capture(Option<String>, Option<usize>),
    Variable(String, Option<(usize, usize)>),
}

impl Hex {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let elements = parse(text)?;
        for element in &elements {
            if matches!(element, Element::AnyByte | Element::Capture(..)) {
                return Err("a pattern where bytes are needed".to_owned());
            }
        }
        Ok(Self(elements))
    }

    pub(super) fn resolve(&self, variables: &Variables) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        for element in &self.0 {
            match element {
                Element::Byte(byte) => out.push(*byte),
                Element::Variable(name, range) => {
                    out.extend_from_slice(value(variables, name, *range)?);
                }
                Element::AnyByte | Element::Capture(..) => {
                    return Err("a pattern where bytes are needed".to_owned());
                }
            }
        }
        Ok(out)
    }
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let elements = parse(text)?;
        let open = elements
            .iter()
            .filter(|element| matches!(element, Element::Capture(_, None)))
            .count();
        if open > 1 {
            return Err("more than one open part".to_owned());
        }
        Ok(Self(elements))
    }

    /// Compares and defines the variables.
    pub(super) fn compare(&self, response: &[u8], variables: &mut Variables) -> Result<(), String> {
        let mut fixed = 0;
        for element in &self.0 {
            fixed += match element {
                Element::AnyByte | Element::Byte(_) => 1,
                Element::Capture(_, length) => length.unwrap_or(0),
                Element::Variable(name, range) => value(variables, name, *range)?.len(),
            };
        }
        let has_open = self
            .0
            .iter()
            .any(|element| matches!(element, Element::Capture(_, None)));
        let open = response
            .len()
            .checked_sub(fixed)
            .filter(|left| has_open || *left == 0)
            .ok_or_else(|| format!("{fixed} bytes expected, not {}", response.len()))?;

        let mut rest = response;
        for element in &self.0 {
            let length = match element {
                Element::AnyByte | Element::Byte(_) => 1,
                Element::Capture(_, length) => length.unwrap_or(open),
                Element::Variable(name, range) => value(variables, name, *range)?.len(),
            };
            let (part, after) = rest
                .split_at_checked(length)
                .ok_or("the response is too short")?;
            let expected = match element {
                Element::AnyByte => None,
                Element::Byte(byte) => Some(vec![*byte]),
                Element::Capture(name, _) => {
                    if let Some(name) = name {
                        variables.insert(name.clone(), part.to_vec());
                    }
                    None
                }
                Element::Variable(name, range) => Some(value(variables, name, *range)?.to_vec()),
            };
            if let Some(expected) = expected
                && expected != part
            {
                let offset = response.len() - rest.len();
                return Err(format!(
                    "{} expected at offset {offset}, not {}",
                    hex(&expected),
                    hex(part)
                ));
            }
            rest = after;
        }
        Ok(())
    }
}

fn value<'a>(
    variables: &'a Variables,
    name: &str,
    range: Option<(usize, usize)>,
) -> Result<&'a [u8], String> {
    let value = variables
        .get(name)
        .ok_or_else(|| format!("{name} is not defined"))?;
    match range {
        None => Ok(value),
        Some((from, to)) => value
            .get(from..to.min(value.len()))
            .ok_or_else(|| format!("{name} has only {} bytes", value.len())),
    }
}

fn parse(text: &str) -> Result<Vec<Element>, String> {
    let mut elements = Vec::new();
    let text: String = text.split_whitespace().collect();
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let (element, after) = match first {
            '*' => (Element::Capture(None, None), rest.split_at(1).1),
            '{' => {
                let (inside, after) = rest
                    .split_at(1)
                    .1
                    .split_once('}')
                    .ok_or("a brace is not closed")?;
                (braces(inside)?, after)
            }
            _ => {
                let (pair, after) = rest
                    .split_at_checked(2)
                    .ok_or("an odd number of hexadecimal digits")?;
                let element = if pair == "??" {
                    Element::AnyByte
                } else {
                    Element::Byte(
                        u8::from_str_radix(pair, 16)
                            .map_err(|_| format!("{pair} is not hexadecimal"))?,
                    )
                };
                (element, after)
            }
        };
        elements.push(element);
        rest = after;
    }
    Ok(elements)
}

/// `name`, `name[a..b]`, `name:N`, `name:*`.
fn braces(inside: &str) -> Result<Element, String> {
    let number = |text: &str| {
        text.parse::<usize>()
            .map_err(|_| format!("{text} is not a number"))
    };
    if let Some((name, length)) = inside.split_once(':') {
        let length = match length {
            "*" => None,
            text => Some(number(text)?),
        };
        return Ok(Element::Capture(Some(name.to_owned()), length));
    }
    if let Some((name, range)) = inside.split_once('[') {
        let (from, to) = range
            .strip_suffix(']')
            .and_then(|range| range.split_once(".."))
            .ok_or_else(|| format!("{inside} is not a part of a variable"))?;
        let to = if to.is_empty() {
            usize::MAX
        } else {
            number(to)?
        };
        let from = if from.is_empty() { 0 } else { number(from)? };
        return Ok(Element::Variable(name.to_owned(), Some((from, to))));
    }
    Ok(Element::Variable(inside.to_owned(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(pattern: &str, response: &[u8]) -> Result<Variables, String> {
        let mut variables = Variables::from([("x".to_owned(), vec![1, 2, 3])]);
        Pattern::parse(pattern)?.compare(response, &mut variables)?;
        Ok(variables)
    }

    #[test]
    fn bytes_wildcards_and_captures() {
        assert!(compare("9000", &[0x90, 0]).is_ok());
        assert!(compare("9000", &[0x90, 1]).is_err());
        assert!(compare("9000", &[0x90, 0, 0]).is_err());
        assert!(compare("90??", &[0x90, 7]).is_ok());
        assert!(compare("* 9000", &[1, 2, 0x90, 0]).is_ok());
        assert!(compare("* 9000", &[0x90]).is_err());
        let variables = compare("AA {a:2} {b:*} 9000", &[0xAA, 1, 2, 3, 4, 5, 0x90, 0]).unwrap();
        assert_eq!(variables["a"], [1, 2]);
        assert_eq!(variables["b"], [3, 4, 5]);
    }

    #[test]
    fn variables_and_their_parts_stand_for_bytes() {
        assert!(compare("{x}9000", &[1, 2, 3, 0x90, 0]).is_ok());
        assert!(compare("{x[1..]}{x[..1]}", &[2, 3, 1]).is_ok());
        assert!(compare("{y}", &[1]).is_err());
        assert!(compare("{x[4..]}", &[1]).is_err());
    }
}
