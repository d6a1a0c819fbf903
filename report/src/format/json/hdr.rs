//! A histogram in JSON.

use std::io::Read as _;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{
    Deserializer as HdrReader, Serializer as _, V2DeflateSerializer,
};

/// Probes that a run can have: at 100 000 a second, those of four months.
pub(super) const MAX_PROBES: u64 = 1 << 40;

/// All values of a distribution, as `HdrHistogram`'s V2 encoding, deflated, in base64: what its
/// other implementations read and write as a string that begins with `HISTF`.
pub(crate) struct Hdr(pub(crate) Histogram<u64>);

impl Hdr {
    pub(crate) fn encode(&self) -> String {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&self.0, &mut bytes)
            .expect("a Vec takes everything, and no count is beyond 63 bits");
        BASE64_STANDARD.encode(bytes)
    }

    /// Absent for what is no histogram, or one that takes more memory or has more values than one
    /// of a run can have.
    pub(super) fn decode(text: &str) -> Option<Self> {
        let bytes = BASE64_STANDARD.decode(text).ok()?;
        let (header, deflated) = bytes.split_at_checked(DEFLATED_HEADER)?;
        if header[..4] != DEFLATED_COOKIE {
            return None;
        }
        let mut plain = Vec::new();
        let mut inflate = ZlibDecoder::new(deflated).take(MAX_PLAIN);
        inflate.read_to_end(&mut plain).ok()?;
        if !is_of_ours(&plain) || has_most_zeros(&plain) {
            return None;
        }
        let histogram: Histogram<u64> = HdrReader::new().deserialize(&mut plain.as_slice()).ok()?;
        (histogram.len() <= MAX_PROBES).then_some(Self(histogram))
    }
}

/// What stands before the deflated part: cookie and length.
const DEFLATED_HEADER: usize = 8;

/// `V2_COMPRESSED_COOKIE` of `HdrHistogram`.
const DEFLATED_COOKIE: [u8; 4] = 0x1c84_9314_u32.to_be_bytes();

/// The inflated form is no longer, bytes: of each of the counts up to nine, of which those at most
/// that the limits below allow.
const MAX_PLAIN: u64 = 40 + 9 * 33 * 1024;

/// Significant decimal digits and largest value, ns (73 min), of a histogram that is read: at
/// most 270 kB.
const MAX_DIGITS: u32 = 3;

const MAX_VALUE: u64 = 1 << 42;

/// Whether a run of 2^63 zeros may be in it, which is none: the crate computes its length unchecked.
fn has_most_zeros(plain: &[u8]) -> bool {
    const MOST_ZEROS: [u8; 9] = [0xff; 9];
    plain
        .windows(MOST_ZEROS.len())
        .any(|bytes| bytes == MOST_ZEROS)
}

/// Whether the header of an inflated histogram (cookie, length, offset, digits, lowest and highest
/// value) has limits like those of a run, before memory is taken for it.
fn is_of_ours(plain: &[u8]) -> bool {
    let number = |at: usize| plain.get(at..).and_then(<[u8]>::first_chunk::<8>);
    let number = |at: usize| number(at).map(|bytes| u64::from_be_bytes(*bytes));
    let length = number(0).map(|both| both & u64::from(u32::MAX));
    let digits = number(8).map(|both| both as u32);
    let within = |value: Option<u64>, max: u64| value.is_some_and(|value| value <= max);
    within(length, MAX_PLAIN)
        && digits.is_some_and(|digits| digits <= MAX_DIGITS)
        && within(number(24), MAX_VALUE)
}
