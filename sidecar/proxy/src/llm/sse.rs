//! Server-sent events (WHATWG HTML section 9.2): lines in, the data of events out.

use super::Unreadable;

/// What ends a stream of chat completions. It is no JSON.
const DONE: &[u8] = b"[DONE]";

/// The one field that carries something.
const DATA: &[u8] = b"data";

const BOM: &[u8] = b"\xef\xbb\xbf";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// Before the first byte of the stream.
    #[default]
    Start,
    /// In a field's name.
    Name,
    /// Behind the colon of `data`: one space is not part of the value.
    Space,
    /// In the value of `data`.
    Data,
    /// In anything else.
    Other,
}

/// Splits a stream into events.
#[derive(Debug, Default)]
pub(super) struct Events {
    at: At,
    // The field's name as far as it could be `data`.
    name: Vec<u8>,
    // The beginning of the event's data as far as it could be `[DONE]`.
    head: Vec<u8>,
    // The event has data that went out.
    sent: bool,
    // The event has a line of data before this one.
    lines: bool,
    // The last byte was a carriage return: a newline behind it is the same line's end.
    returned: bool,
}

/// Takes pieces of an event's data; `None`: the event is over.
type Out<'a> = &'a mut dyn FnMut(Option<&[u8]>) -> Result<(), Unreadable>;

impl Events {
    pub(super) fn push(&mut self, mut bytes: &[u8], out: Out<'_>) -> Result<(), Unreadable> {
        while let Some(&byte) = bytes.first() {
            let mut taken = 1;
            match (self.at, byte) {
                (_, b'\n') if self.returned => {}
                (_, b'\r' | b'\n') => self.end_line(out)?,
                (At::Start | At::Name, b':') => {
                    self.at = if self.name == DATA { At::Space } else { At::Other };
                }
                (At::Start | At::Name, _) => self.name_byte(byte),
                (At::Space, b' ') => self.begin_data(out)?,
                (At::Space, _) => {
                    self.begin_data(out)?;
                    taken = 0;
                }
                (At::Data | At::Other, _) => {
                    taken = bytes.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(bytes.len());
                    if self.at == At::Data {
                        self.data(bytes.get(..taken).unwrap_or_default(), out)?;
                    }
                }
            }
            self.returned = taken == 1 && byte == b'\r' && self.at == At::Name;
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// The stream is over.
    pub(super) fn finish(&mut self) -> Result<(), Unreadable> {
        if self.head.is_empty() || self.head == DONE { Ok(()) } else { Err(Unreadable("the stream ends in an event")) }
    }

    fn name_byte(&mut self, byte: u8) {
        self.name.push(byte);
        if self.at == At::Start && self.name == BOM {
            self.name.clear();
        }
        let could_be = DATA.starts_with(&self.name) || (self.at == At::Start && BOM.starts_with(&self.name));
        self.at = match (could_be, self.at) {
            (false, _) => At::Other,
            (true, at) => at,
        };
    }

    fn begin_data(&mut self, out: Out<'_>) -> Result<(), Unreadable> {
        self.at = At::Data;
        if std::mem::replace(&mut self.lines, true) { self.data(b"\n", out) } else { Ok(()) }
    }

    fn data(&mut self, piece: &[u8], out: Out<'_>) -> Result<(), Unreadable> {
        if !self.sent {
            self.head.extend_from_slice(piece.get(..piece.len().min(DONE.len() + 1)).unwrap_or_default());
            if DONE.starts_with(&self.head) {
                return Ok(());
            }
            // What was kept back goes out before the rest of this piece.
            let kept = self.head.len() - piece.len().min(DONE.len() + 1);
            let head = std::mem::take(&mut self.head);
            self.sent = true;
            out(Some(head.get(..kept).unwrap_or_default()))?;
        }
        out(Some(piece))
    }

    fn end_line(&mut self, out: Out<'_>) -> Result<(), Unreadable> {
        let empty = matches!(self.at, At::Start | At::Name) && self.name.is_empty();
        if self.at == At::Space || (self.at == At::Name || self.at == At::Start) && self.name == DATA {
            self.begin_data(out)?;
        }
        self.name.clear();
        self.at = At::Name;
        if !empty {
            return Ok(());
        }
        let done = self.head == DONE;
        let cut = !self.head.is_empty() && !done;
        self.head.clear();
        self.lines = false;
        if cut {
            return Err(Unreadable("an event is no JSON"));
        }
        if std::mem::take(&mut self.sent) { out(None) } else { Ok(()) }
    }
}
