//! Options of calls (`a{sv}`): decoded into what an option may be, and nothing else. A value of any other type is
//! passed over without being kept, so that it costs no more than it is long.

use std::fmt;
use std::os::fd::OwnedFd;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zbus::Signature;
use zbus::wire::Type;

use super::error::BusError;

/// More than any method has.
const MAX_OPTIONS: usize = 16;

/// The options of a call, each name once.
#[derive(Debug, Default)]
pub(crate) struct Options(Vec<(String, Value)>);

/// What an option may be.
#[derive(Debug)]
pub(crate) enum Value {
    Bytes(Vec<u8>),
    Descriptor(OwnedFd),
    Flag(bool),
    /// Options of an option.
    Group(Options),
    Number(u32),
    /// Of a type that no option has.
    Other,
    Text(String),
}

impl Options {
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        let mut names = self.0.iter();
        let position = names.position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(position).1)
    }

    pub(crate) fn take_text(&mut self, name: &str) -> Result<Option<String>, BusError> {
        self.take_as(name, "s", |value| match value {
            Value::Text(value) => Some(value),
            _ => None,
        })
    }

    pub(crate) fn take_flag(&mut self, name: &str) -> Result<Option<bool>, BusError> {
        self.take_as(name, "b", |value| match value {
            Value::Flag(value) => Some(value),
            _ => None,
        })
    }

    pub(crate) fn take_number(&mut self, name: &str) -> Result<Option<u32>, BusError> {
        self.take_as(name, "u", |value| match value {
            Value::Number(value) => Some(value),
            _ => None,
        })
    }

    pub(crate) fn take_bytes(&mut self, name: &str) -> Result<Option<Vec<u8>>, BusError> {
        self.take_as(name, "ay", |value| match value {
            Value::Bytes(value) => Some(value),
            _ => None,
        })
    }

    pub(crate) fn take_descriptor(&mut self, name: &str) -> Result<Option<OwnedFd>, BusError> {
        self.take_as(name, "h", |value| match value {
            Value::Descriptor(value) => Some(value),
            _ => None,
        })
    }

    pub(crate) fn take_group(&mut self, name: &str) -> Result<Option<Self>, BusError> {
        self.take_as(name, "a{sv}", |value| match value {
            Value::Group(value) => Some(value),
            _ => None,
        })
    }

    fn take_as<T>(
        &mut self,
        name: &str,
        kind: &str,
        as_kind: impl FnOnce(Value) -> Option<T>,
    ) -> Result<Option<T>, BusError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match as_kind(value) {
            Some(value) => Ok(Some(value)),
            None => Err(BusError::invalid(format!("{name} must be of type {kind}"))),
        }
    }

    /// An error that names an option that nobody has taken.
    pub(crate) fn nothing_left(&self) -> Result<(), BusError> {
        match self.left() {
            None => Ok(()),
            Some(name) => Err(BusError::invalid(format!("unknown option {name}"))),
        }
    }

    pub(crate) fn left(&self) -> Option<&str> {
        self.0.first().map(|(name, _)| name.as_str())
    }
}

impl Type for Options {
    const SIGNATURE: &'static Signature =
        &Signature::static_dict(&Signature::Str, &Signature::Variant);
}

impl<'de> Deserialize<'de> for Options {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        OptionsSeed { nested: false }.deserialize(deserializer)
    }
}

/// Reads options, whose values may be options once.
struct OptionsSeed {
    nested: bool,
}

impl<'de> DeserializeSeed<'de> for OptionsSeed {
    type Value = Options;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Options, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OptionsSeed {
    type Value = Options;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "at most {MAX_OPTIONS} options")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Options, M::Error> {
        let mut options = Options::default();
        while let Some(name) = map.next_key::<&str>()? {
            if options.0.len() >= MAX_OPTIONS {
                return Err(M::Error::custom(format!("more than {MAX_OPTIONS} options")));
            }
            if options.0.iter().any(|(known, _)| known == name) {
                return Err(M::Error::custom(format!("two options {name}")));
            }
            let nested = self.nested;
            let value = map.next_value_seed(ValueSeed { nested })?;
            options.0.push((name.to_owned(), value));
        }
        Ok(options)
    }
}

/// The parts of a variant, as zbus presents them.
const PARTS: &[&str] = &["signature", "value"];

/// Reads the value of an option, or of an option in an option.
struct ValueSeed {
    nested: bool,
}

impl<'de> DeserializeSeed<'de> for ValueSeed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_struct("Variant", PARTS, self)
    }
}

impl<'de> Visitor<'de> for ValueSeed {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a variant")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut parts: S) -> Result<Value, S::Error> {
        let none = || S::Error::custom("a variant without a value");
        let signature: &str = parts.next_element()?.ok_or_else(none)?;
        let value = match signature {
            "ay" => parts.next_element()?.map(Value::Bytes),
            "b" => parts.next_element()?.map(Value::Flag),
            "h" => {
                let descriptor: Option<zbus::OwnedFd> = parts.next_element()?;
                descriptor.map(|descriptor| Value::Descriptor(descriptor.into()))
            }
            "s" => parts.next_element()?.map(Value::Text),
            "u" => parts.next_element()?.map(Value::Number),
            "a{sv}" if !self.nested => {
                let options = parts.next_element_seed(OptionsSeed { nested: true })?;
                options.map(Value::Group)
            }
            _ => {
                let passed_over: Option<IgnoredAny> = parts.next_element()?;
                passed_over.map(|_| Value::Other)
            }
        };
        value.ok_or_else(none)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashMap;

    use zbus::{Message, Variant};

    use super::*;
    use crate::doors::bus::request::arguments;

    /// One option.
    pub(crate) fn option<'a>(
        name: &'a str,
        value: impl Into<Variant<'a>>,
    ) -> (&'a str, Variant<'a>) {
        (name, value.into())
    }

    /// Options as they arrive.
    pub(crate) fn arrived(options: HashMap<&str, Variant<'_>>) -> Result<Options, BusError> {
        let message = Message::method_call("/", "Method");
        arguments(&message.build(&options).unwrap())
    }

    #[test]
    fn options_are_what_they_may_be() {
        let group = HashMap::from([("min-length", Variant::from(6_u32))]);
        let mut options = arrived(HashMap::from([
            ("text", Variant::from("text")),
            ("flag", Variant::from(true)),
            ("number", Variant::from(7_u32)),
            ("bytes", Variant::from(vec![1_u8, 2, 3])),
            ("group", Variant::from(group)),
        ]))
        .unwrap();
        assert_eq!(options.take_text("text").unwrap().as_deref(), Some("text"));
        assert_eq!(options.take_flag("flag"), Ok(Some(true)));
        assert_eq!(options.take_number("number"), Ok(Some(7)));
        assert_eq!(options.take_bytes("bytes"), Ok(Some(vec![1, 2, 3])));
        let mut group = options.take_group("group").unwrap().unwrap();
        assert_eq!(group.take_number("min-length"), Ok(Some(6)));
        assert_eq!((options.left(), group.left()), (None, None));
        assert_eq!(options.take_text("text"), Ok(None));
    }

    #[test]
    fn values_of_other_types_are_not_kept() {
        let deep = (0..20).fold(Variant::from(1_u8), |inner, _| {
            Variant::Variant(Box::new(inner))
        });
        let group = HashMap::from([("inner", Variant::from(HashMap::from([("a", 1_u32)])))]);
        let outer = HashMap::from([("group", Variant::from(group))]);
        for value in [
            Variant::from(vec![1_u32; 1000]),
            Variant::from(vec![Variant::from(1_u8), Variant::from("x")]),
            Variant::from(1_i64),
            Variant::from(("a", 1_u32)),
            deep,
            Variant::from(outer),
        ] {
            let mut options = arrived(HashMap::from([("option", value)])).unwrap();
            let option = options.take("option");
            match option {
                Some(Value::Other) => {}
                // One that is nested deeper than any option.
                Some(Value::Group(mut group)) => {
                    assert!(matches!(group.take("group"), Some(Value::Other)));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn number_of_options_is_limited() {
        let names: Vec<String> = (0..=MAX_OPTIONS).map(|number| number.to_string()).collect();
        let options = |count| {
            let names = names.iter().take(count);
            names
                .map(|name| (name.as_str(), Variant::from(true)))
                .collect()
        };
        assert!(arrived(options(MAX_OPTIONS)).is_ok());
        let error = arrived(options(MAX_OPTIONS + 1)).unwrap_err();
        assert!(error.text().contains("more than 16"), "{error:?}");
    }
}
