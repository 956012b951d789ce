//! Lists that may be longer than a frame come in pages.

use std::convert::Infallible;

use minicbor::{Decode, Encode};

/// Most bytes of entries on one page: below [`MAX_FRAME`](super::MAX_FRAME) with room for one entry more.
const PAGE: usize = 96 * 1024;

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Cursor {
    /// Generation of the list.
    #[n(0)]
    pub generation: u64,
    /// Number of the first entry, from 0.
    #[n(1)]
    pub position: u32,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Page<T> {
    /// Differs when the list does.
    #[n(0)]
    pub generation: u64,
    /// Number of the first entry: the cursor's, or 0 when the list has changed since that was issued.
    #[n(1)]
    pub first: u32,
    /// At least one, unless the list ends here.
    #[n(2)]
    pub entries: Vec<T>,
    /// Whether more entries follow.
    #[n(3)]
    pub more: bool,
}

impl<T: Encode<()>> Page<T> {
    /// The page at a cursor, of a list of this generation. `entries` returns those from a position on; they are made as
    /// far as the page has room.
    pub fn cut<I: Iterator<Item = T>>(
        generation: u64,
        from: Option<Cursor>,
        entries: impl FnOnce(usize) -> I,
    ) -> Self {
        let from = from.filter(|from| from.generation == generation);
        let first = from.map_or(0, |from| from.position);
        let mut page = Self {
            generation,
            first,
            entries: Vec::new(),
            more: false,
        };
        let mut bytes = 0;
        for entry in entries(usize::try_from(first).unwrap_or(usize::MAX)) {
            bytes += length(&entry);
            if bytes > PAGE && !page.entries.is_empty() {
                page.more = true;
                break;
            }
            page.entries.push(entry);
        }
        page
    }
}

impl<T> Page<T> {
    /// Where the next page begins, if there is one.
    #[must_use]
    pub fn next(&self) -> Option<Cursor> {
        let count = u32::try_from(self.entries.len()).ok()?;
        self.more.then_some(Cursor {
            generation: self.generation,
            position: self.first.checked_add(count)?,
        })
    }
}

/// A list that did not stay the same for as long as reading all its pages takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the list kept changing while it was read; try again")]
pub struct Unsettled;

/// How often reading begins again when the list has changed.
const ATTEMPTS: usize = 8;

/// All entries of a list, consistently: reading begins again when the list changes between two pages. `ask` requests
/// one page.
///
/// # Errors
///
/// Those of `ask`, and [`Unsettled`] for a list that changes again and again.
pub fn collect<T, E: From<Unsettled>>(
    mut ask: impl FnMut(Option<Cursor>) -> Result<Page<T>, E>,
) -> Result<(u64, Vec<T>), E> {
    let mut page = ask(None)?;
    for _ in 0..ATTEMPTS {
        let generation = page.generation;
        let mut all = Vec::new();
        loop {
            let next = page.next();
            all.append(&mut page.entries);
            let Some(cursor) = next else {
                return Ok((generation, all));
            };
            page = ask(Some(cursor))?;
            if (page.generation, page.first) != (generation, cursor.position) {
                break;
            }
        }
        if page.first != 0 {
            page = ask(None)?;
        }
    }
    Err(Unsettled.into())
}

/// How many bytes a message has.
fn length(message: &impl Encode<()>) -> usize {
    let mut counted = Counted(0);
    match minicbor::encode(message, &mut counted) {
        Ok(()) => counted.0,
        Err(_) => PAGE,
    }
}

struct Counted(usize);

impl minicbor::encode::Write for Counted {
    type Error = Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.0 += bytes.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(count: u32) -> Vec<String> {
        (0..count).map(|number| format!("{number:01000}")).collect()
    }

    #[test]
    fn pages_together_are_the_list_and_each_fits_a_frame() {
        for count in [0, 1, 95, 96, 97, 98, 1000] {
            let entries = list(count);
            let mut pages = 0;
            let (_, all) = collect(|from| {
                pages += 1;
                let page = Page::cut(7, from, |first| entries.iter().skip(first).cloned());
                assert!(length(&page) < crate::message::MAX_FRAME);
                Ok::<_, Unsettled>(page)
            })
            .unwrap();
            assert_eq!(all, entries, "{count}");
            assert_eq!(pages > 1, count > 98, "{count} in {pages}");
        }
    }

    #[test]
    fn list_that_changes_is_read_again_and_never_mixed() {
        let mut asked = 0;
        let result: Result<_, Unsettled> = collect(|from| {
            asked += 1;
            let generation = if asked < 3 { 1 } else { 2 };
            let marked = |entry| format!("{generation}{entry}");
            Ok(Page::cut(generation, from, |first| {
                list(300).into_iter().map(marked).skip(first)
            }))
        });
        let (generation, all) = result.unwrap();
        assert_eq!((generation, all.len()), (2, 300));
        assert!(all.iter().all(|entry| entry.starts_with('2')));
    }

    #[test]
    fn list_that_never_settles_is_given_up() {
        let mut generation = 0;
        let result: Result<(u64, Vec<String>), Unsettled> = collect(|from| {
            generation += 1;
            Ok(Page::cut(generation, from, |first| {
                list(300).into_iter().skip(first)
            }))
        });
        assert_eq!(result, Err(Unsettled));
        assert!(generation < 20, "{generation}");
    }

    #[test]
    fn entry_that_is_longer_than_a_page_has_one_for_itself() {
        let long = vec!["x".repeat(PAGE + 1), "y".to_owned()];
        let page = Page::cut(1, None, |first| long.into_iter().skip(first));
        assert_eq!((page.entries.len(), page.more), (1, true));
    }
}
