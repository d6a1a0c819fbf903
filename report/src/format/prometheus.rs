//! What Prometheus' HTTP API answers to an instant query.

use serde::Deserialize;
use std::collections::BTreeMap;

/// The answer to a query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The series.
    pub series: Vec<Series>,
    /// What it says itself of the answer: that a part of it is missing, for example.
    pub warnings: Vec<String>,
}

/// A series at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When, seconds since the Unix epoch.
    pub time_s: f64,
    /// Its value, which may be infinite or no number.
    pub value: f64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not what the API says.
    #[error("no answer of Prometheus' HTTP API: {0}")]
    Foreign(#[from] serde_json::Error),
    /// The query failed.
    #[error("{kind}: {message}")]
    Refused {
        /// What kind of error it is, in Prometheus' words.
        kind: String,
        /// What it says of it.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
enum Body {
    Success {
        data: Data,
        #[serde(default)]
        warnings: Vec<String>,
    },
    Error {
        #[serde(rename = "errorType", default)]
        kind: String,
        #[serde(rename = "error")]
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "snake_case")]
enum Data {
    Vector(Vec<Sample>),
}

#[derive(Deserialize)]
struct Sample {
    metric: BTreeMap<String, String>,
    /// Absent of a histogram.
    value: Option<(f64, String)>,
}

/// Reads it.
pub fn answer(body: &[u8]) -> Result<Answer, Error> {
    match serde_json::from_slice(body)? {
        Body::Error { kind, message } => Err(Error::Refused { kind, message }),
        Body::Success {
            data: Data::Vector(samples),
            warnings,
        } => Ok(Answer {
            series: samples.into_iter().filter_map(Sample::series).collect(),
            warnings,
        }),
    }
}

impl Sample {
    fn series(self) -> Option<Series> {
        let (time_s, value) = self.value?;
        Some(Series {
            labels: self.metric,
            time_s,
            // As Go writes it: NaN, +Inf.
            value: value.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_values_and_warnings() {
        let body = br#"{"status":"success","warnings":["store b: no answer"],"infos":["i"],"data":{"resultType":"vector","result":[
            {"metric":{"instance":"a:9500","target":"b"},"value":[1700000000.5,"0.25"]},
            {"metric":{},"value":[1700000000.5,"NaN"]},
            {"metric":{},"histogram":[1700000000.5,{"count":"1","sum":"1"}]},
            {"metric":{},"value":[1700000000.5,"+Inf"]}]}}"#;
        let answer = answer(body).unwrap();
        assert_eq!(answer.warnings, ["store b: no answer"]);
        let [first, nan, infinite] = &answer.series[..] else {
            panic!("{answer:#?}")
        };
        assert_eq!((first.time_s, first.value), (1_700_000_000.5, 0.25));
        assert_eq!(first.labels["target"], "b");
        assert!(nan.value.is_nan() && infinite.value.is_infinite());
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let of = |body: &str| answer(body.as_bytes()).unwrap_err().to_string();
        let refused = r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
        assert_eq!(of(refused), "bad_data: parse error");
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"#;
        for body in ["", "<html>", "{}", "[]", r#"{"status":"success"}"#, scalar] {
            assert!(of(body).starts_with("no answer of Prometheus"), "{body}");
        }
    }
}
