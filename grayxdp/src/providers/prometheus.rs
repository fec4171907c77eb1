//! Values from a Prometheus server, by its HTTP API (`/api/v1/query`).
//!
//! A range is asked for as a subquery, `(query)[window:step]`, at the server's own now: clocks that differ do no harm.
//! No series is no data; a series whose value is NaN is an error: something was divided by nothing.

use std::time::Duration;

use serde::Deserialize;

use crate::{
    analysis::Answer,
    model::plan::{PrometheusQuery, Range, Reduce},
    providers::{http::web_of, web},
};

/// Asks once.
pub(super) async fn ask(query: &PrometheusQuery) -> Result<Answer, String> {
    let PrometheusQuery { address, address_from, query: text, range, headers, headers_from, timeout: _, retries: _ } =
        query;
    let web = web_of(address.as_ref(), address_from.as_ref(), headers, headers_from)?;
    let asked = match range {
        None => text.clone(),
        Some(Range { window, step, reduce: _ }) => format!("({text})[{}:{}]", millis(*window), millis(*step)),
    };
    let answered = web::get(&web, "/api/v1/query", &[("query", &asked)]).await?;
    read(&answered.body, range.map(|range| range.reduce)).ok_or_else(|| match answered.status.is_success() {
        true => "the answer is not one of Prometheus".to_owned(),
        false => answered.refused(),
    })?
}

fn millis(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

/// The form of an answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", tag = "status")]
enum Reply {
    Success {
        data: Data,
    },
    #[serde(rename_all = "camelCase")]
    Error {
        error_type: String,
        error: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", tag = "resultType", content = "result")]
enum Data {
    Scalar(Point),
    Vector(Vec<Sample>),
    Matrix(Vec<Series>),
    String(serde::de::IgnoredAny),
}

#[derive(Debug, Deserialize)]
struct Sample {
    value: Point,
}

#[derive(Debug, Deserialize)]
struct Series {
    values: Vec<Point>,
}

/// A time, and a number as text: `NaN` and `+Inf` are among them.
#[derive(Debug, Deserialize)]
struct Point(#[expect(dead_code, reason = "the order of points says enough")] f64, String);

/// What an answer says; none where it is of another form.
fn read(body: &str, reduce: Option<Reduce>) -> Option<Result<Answer, String>> {
    let data = match serde_json::from_str(body).ok()? {
        Reply::Success { data } => data,
        Reply::Error { error_type, error } => return Some(Err(format!("{error_type}: {error}"))),
    };
    let values: Option<Vec<f64>> = match data {
        Data::Scalar(point) => Some(vec![number(&point)?]),
        Data::Vector(samples) => samples.iter().map(|sample| number(&sample.value)).collect(),
        Data::Matrix(series) => {
            series.iter().map(|series| reduced(&series.values, reduce.unwrap_or_default())).collect()
        }
        Data::String(_) => return Some(Err("the query gives a text, not numbers".to_owned())),
    };
    let values = values?;
    Some(match values.is_empty() {
        true => Ok(Answer::Empty),
        false if values.iter().any(|value| value.is_nan()) => Err("the value is NaN: not a number".to_owned()),
        false => Ok(Answer::Values(values)),
    })
}

fn number(point: &Point) -> Option<f64> {
    // "+Inf", "-Inf" and "NaN" are read too.
    point.1.parse().ok()
}

/// One value of many; points that are not a number do not count unless all are.
fn reduced(points: &[Point], reduce: Reduce) -> Option<f64> {
    let values: Vec<f64> = points.iter().map(number).collect::<Option<_>>()?;
    let sound: Vec<f64> = values.into_iter().filter(|value| !value.is_nan()).collect();
    let one = match reduce {
        Reduce::Mean => (!sound.is_empty()).then(|| sound.iter().sum::<f64>() / sound.len() as f64),
        Reduce::Min => sound.iter().copied().reduce(f64::min),
        Reduce::Max => sound.iter().copied().reduce(f64::max),
        Reduce::Last => sound.last().copied(),
    };
    Some(one.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn success(kind: &str, result: &str) -> String {
        format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}}}}"#)
    }

    #[test]
    fn answers_in_the_forms_of_the_api_are_read() {
        let values = |values: &[f64]| Some(Ok(Answer::Values(values.to_vec())));
        let error = |why: &str| Some(Err(why.to_owned()));
        let nan = error("the value is NaN: not a number");
        let matrix = r#"[{"metric":{},"values":[[1,"1"],[2,"NaN"],[3,"5"]]}]"#;
        let cases = [
            (success("vector", r#"[{"metric":{"a":"b"},"value":[1435781451.781,"0.5"]}]"#), None, values(&[0.5])),
            (
                success("vector", r#"[{"metric":{},"value":[1,"1"]},{"metric":{},"value":[1,"2"]}]"#),
                None,
                values(&[1.0, 2.0]),
            ),
            (success("vector", r#"[{"metric":{},"value":[1,"+Inf"]}]"#), None, values(&[f64::INFINITY])),
            (success("vector", r#"[{"metric":{},"value":[1,"NaN"]}]"#), None, nan.clone()),
            (success("vector", "[]"), None, Some(Ok(Answer::Empty))),
            (success("scalar", r#"[1435781460.781,"1"]"#), None, values(&[1.0])),
            (success("matrix", matrix), Some(Reduce::Mean), values(&[3.0])),
            (success("matrix", matrix), Some(Reduce::Min), values(&[1.0])),
            (success("matrix", matrix), Some(Reduce::Last), values(&[5.0])),
            (success("matrix", r#"[{"metric":{},"values":[[1,"NaN"]]}]"#), Some(Reduce::Max), nan),
            (success("string", r#"[1,"x"]"#), None, error("the query gives a text, not numbers")),
            (
                r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#.to_owned(),
                None,
                error("bad_data: parse error"),
            ),
            ("<html>".to_owned(), None, None),
        ];
        for (body, reduce, expected) in cases {
            assert_eq!(read(&body, reduce), expected, "{body}");
        }
    }
}
