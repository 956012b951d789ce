//! The mark before each finding, as the terminal can show it.

/// One character for each weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) fine: &'static str,
    pub(super) advice: &'static str,
    pub(super) fault: &'static str,
}

impl Marks {
    /// Of the locale that this program was started in (POSIX.1-2017 §8.2: the first that is set and not empty).
    pub(super) fn of_locale() -> Self {
        let set = ["LC_ALL", "LC_CTYPE", "LANG"].map(|name| std::env::var(name).ok());
        Self::of(&set.map(Option::unwrap_or_default))
    }

    fn of(values: &[String]) -> Self {
        let locale = values.iter().find(|value| !value.is_empty());
        let locale = locale.map(|locale| locale.to_ascii_lowercase().replace('-', ""));
        match locale.is_some_and(|locale| locale.contains("utf8")) {
            true => Self {
                fine: "✓",
                advice: "!",
                fault: "✗",
            },
            false => Self {
                fine: "+",
                advice: "!",
                fault: "x",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_ascii_where_the_locale_is() {
        let fault = |values: [&str; 3]| Marks::of(&values.map(str::to_owned)).fault;
        assert_eq!(fault(["", "", "de_DE.UTF-8"]), "✗");
        assert_eq!(fault(["", "C.utf8", "C"]), "✗");
        assert_eq!(fault(["C", "", "de_DE.UTF-8"]), "x");
        assert_eq!(fault(["", "", "de_DE@euro"]), "x");
        assert_eq!(fault(["", "", ""]), "x");
    }
}
