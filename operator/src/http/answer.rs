//! What is asked for, and the answer. Pure, but for the telemetry that it reads.

use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};

use crate::telemetry::Telemetry;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const PATHS: &str = "there are /healthz, /readyz and /metrics";

pub(super) fn answer(
    method: &Method,
    path: &str,
    telemetry: &Telemetry,
    now: Duration,
) -> Response<Full<Bytes>> {
    if ![Method::GET, Method::HEAD].contains(method) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not for here: GET is"));
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match path {
        "/healthz" => health(telemetry.health.alive(now).map(|()| "alive".to_owned())),
        "/readyz" => health(telemetry.health.ready(now)),
        "/metrics" => match telemetry.metrics.text() {
            Ok(metrics) => with_type(StatusCode::OK, metrics, OPEN_METRICS),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written as text".into()),
        },
        _ => text(StatusCode::NOT_FOUND, format!("nothing is here: {PATHS}")),
    }
}

fn health(health: Result<String, String>) -> Response<Full<Bytes>> {
    match health {
        Ok(line) => text(StatusCode::OK, line),
        Err(line) => text(StatusCode::SERVICE_UNAVAILABLE, line),
    }
}

fn text(code: StatusCode, mut line: String) -> Response<Full<Bytes>> {
    line.push('\n');
    with_type(code, line, TEXT)
}

fn with_type(code: StatusCode, body: String, kind: HeaderValue) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::uptime;

    fn code(method: &Method, path: &str, telemetry: &Telemetry) -> u16 {
        answer(method, path, telemetry, uptime()).status().as_u16()
    }

    #[test]
    fn each_path_has_its_answer_and_no_other_method() {
        let telemetry = Telemetry::default();
        for (path, expected) in
            [("/healthz", 200), ("/readyz", 503), ("/metrics", 200), ("/", 404), ("/metrics/", 404)]
        {
            assert_eq!(code(&Method::GET, path, &telemetry), expected, "{path}");
            assert_eq!(code(&Method::HEAD, path, &telemetry), expected, "{path}");
            assert_eq!(code(&Method::POST, path, &telemetry), 405, "{path}");
        }
        telemetry.leads();
        assert_eq!(code(&Method::GET, "/readyz", &telemetry), 503);
        telemetry.health.in_sync();
        assert_eq!(code(&Method::GET, "/readyz", &telemetry), 200);
    }
}
