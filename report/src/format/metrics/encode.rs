//! Families in the formats that Prometheus reads, by the library of the Prometheus project.
//!
//! Text has no native histograms: there one is its sum and its count, and the bucket `+Inf` that the format
//! asks for, unless classic buckets are asked for. Those end at powers of two, where native ones end, too: so
//! they are exact.

use std::borrow::Cow;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric as _, MetricEncoder, NativeHistogram, NativeHistogramBuckets,
    NoLabelSet, prometheus_protobuf, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::CounterWithExemplar;
use prometheus_client::registry::{self, Registry};

use super::family::{Exemplar, Family, Kind, Unit, Value};
use crate::analysis::exponential::Exponential;

/// Classic buckets end at `2^i` seconds for these `i`: 15 us to 2 s.
const CLASSIC: std::ops::RangeInclusive<i32> = -16..=1;
/// Empty buckets up to this many do not end a span, as two numbers more cost as much.
const MAX_GAP: i32 = 2;

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Prometheus' text, version 0.0.4: no exemplars.
    Text,
    /// The text of `OpenMetrics`, version 1.0.0.
    OpenMetrics,
    /// Prometheus' protobuf messages, each behind its length: the one with native histograms.
    Protobuf,
}

impl Form {
    /// What HTTP calls it.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// A page in a format; `classic`: histograms have classic buckets, too.
pub fn encode(families: Vec<Family>, form: Form, classic: bool) -> Vec<u8> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page {
        families,
        form,
        classic,
    }));
    let mut lines = String::new();
    let encoded = match form {
        Form::Text => prometheus_text::encode(&mut lines, &registry),
        Form::OpenMetrics => text::encode(&mut lines, &registry),
        Form::Protobuf => {
            let messages = prometheus_protobuf::encode_to_vec(&registry);
            return messages.expect("memory takes all");
        }
    };
    encoded.expect("a string takes all");
    lines.into_bytes()
}

#[derive(Debug)]
struct Page {
    families: Vec<Family>,
    form: Form,
    classic: bool,
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.families {
            self.family(&mut encoder, family)?;
        }
        Ok(())
    }
}

impl Page {
    fn family(&self, encoder: &mut DescriptorEncoder<'_>, family: &Family) -> fmt::Result {
        let unit = family.unit.map(|unit| match unit {
            Unit::Seconds => registry::Unit::Seconds,
            Unit::Bytes => registry::Unit::Bytes,
        });
        let kind = match family.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
            Kind::Info => MetricType::Info,
        };
        let mut series =
            encoder.encode_descriptor(family.name, family.help, unit.as_ref(), kind)?;
        for sample in &family.samples {
            let labels: Vec<(Cow<'_, str>, Cow<'_, str>)> = sample
                .labels
                .iter()
                .map(|(name, value)| (Cow::from(name.as_ref()), Cow::from(value.as_str())))
                .collect();
            let labels = labels.as_slice();
            if family.kind == Kind::Info {
                series.encode_info(&labels)?;
                continue;
            }
            let one = series.encode_family(&labels)?;
            self.value(one, family.kind, &sample.value)?;
        }
        Ok(())
    }

    fn value(&self, mut one: MetricEncoder<'_>, kind: Kind, value: &Value) -> fmt::Result {
        match value {
            Value::Count(count, Some(exemplar)) => with_exemplar(*count, exemplar).encode(one),
            Value::Count(count, None) => one.encode_counter::<NoLabelSet, _, u64>(count, None),
            Value::Number(number) if kind == Kind::Counter => {
                one.encode_counter::<NoLabelSet, _, u64>(number, None)
            }
            Value::Number(number) => one.encode_gauge(number),
            Value::Histogram(histogram) => self.histogram(one, histogram),
        }
    }

    fn histogram(&self, mut one: MetricEncoder<'_>, histogram: &Exponential) -> fmt::Result {
        let buckets = match (self.classic, self.form) {
            (true, _) => classic(histogram),
            (false, Form::Protobuf) => Vec::new(),
            (false, Form::Text | Form::OpenMetrics) => vec![(f64::INFINITY, histogram.count())],
        };
        let (spans, deltas) = sparse(histogram);
        let none = NativeHistogramBuckets {
            spans: &[],
            deltas: &[],
        };
        let native = NativeHistogram {
            schema: Exponential::SCHEMA,
            zero_threshold: Exponential::ZERO_THRESHOLD_S,
            zero_count: histogram.zeros(),
            negative: none,
            positive: NativeHistogramBuckets {
                spans: &spans,
                deltas: &deltas,
            },
            created: None,
        };
        let (sum, count) = (histogram.sum_s(), histogram.count());
        one.encode_histogram_with_native::<NoLabelSet>(sum, count, &buckets, None, native)
    }
}

/// The last of these counts is the example.
fn with_exemplar(
    count: u64,
    exemplar: &Exemplar,
) -> CounterWithExemplar<Vec<(&'static str, String)>> {
    let counter = CounterWithExemplar::default();
    counter.inc_by(count.saturating_sub(1), None, None);
    counter.inc_by(1, Some(exemplar.labels.clone()), Some(exemplar.time));
    counter
}

/// Classic buckets: upper bounds, seconds, and the values in each alone.
fn classic(histogram: &Exponential) -> Vec<(f64, u64)> {
    let mut below = 0;
    let mut alone = |bound, up_to| (bound, up_to - std::mem::replace(&mut below, up_to));
    let mut buckets: Vec<_> = CLASSIC
        .map(|exponent| alone(libm::ldexp(1.0, exponent), histogram.up_to(exponent)))
        .collect();
    buckets.push(alone(f64::INFINITY, histogram.count()));
    buckets
}

/// Native buckets: spans of them (distance from the one before, length), and each count less the one before.
fn sparse(histogram: &Exponential) -> (Vec<(i32, u32)>, Vec<i64>) {
    let (mut spans, mut deltas) = (Vec::<(i32, u32)>::new(), Vec::new());
    let (mut next, mut before) = (0, 0);
    for (index, count) in histogram.buckets() {
        let gap = index - next;
        match spans.last_mut().filter(|_| gap <= MAX_GAP) {
            Some((_, length)) => {
                *length += gap.cast_unsigned() + 1;
                for _ in 0..gap {
                    deltas.push(-before);
                    before = 0;
                }
            }
            None => spans.push((gap, 1)),
        }
        deltas.push(count.cast_signed() - before);
        (next, before) = (index + 1, count.cast_signed());
    }
    (spans, deltas)
}
