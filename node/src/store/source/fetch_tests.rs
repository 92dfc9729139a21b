use super::*;

fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
}

#[test]
fn every_answer_is_understood() {
    let all = |validator: Option<&str>, total, why| Answer::All {
        validator: validator.map(str::to_owned),
        total,
        why,
    };
    let changed = "it has changed at the source";
    let resume = Some((10, "\"a\""));
    let table = [
        (200, vec![(ETAG, "\"a\""), (CONTENT_LENGTH, "20")], None, all(Some("\"a\""), Some(20), None)),
        (200, vec![(LAST_MODIFIED, "then"), (ETAG, "W/\"a\"")], None, all(Some("then"), None, None)),
        (200, vec![(ETAG, "W/\"a\"")], None, all(None, None, None)),
        (200, vec![(ETAG, "\"a\"")], resume, all(Some("\"a\""), None, Some("the source gives no ranges"))),
        (200, vec![(ETAG, "\"b\"")], resume, all(Some("\"b\""), None, Some(changed))),
        (206, vec![(ETAG, "\"a\""), (CONTENT_RANGE, "bytes 10-19/20")], resume, Answer::Rest),
        (206, vec![(CONTENT_RANGE, "bytes 10-19/*")], resume, Answer::Rest),
        (206, vec![(ETAG, "\"b\""), (CONTENT_RANGE, "bytes 10-19/20")], resume, Answer::Again(changed)),
        (
            206,
            vec![(CONTENT_RANGE, "bytes 10-20/21")],
            resume,
            Answer::Again("its size has changed at the source"),
        ),
        (
            206,
            vec![(CONTENT_RANGE, "bytes 0-19/20")],
            resume,
            Answer::Wrong("asked for the bytes from 10 on, it sends \"bytes 0-19/20\"".into()),
        ),
        (
            206,
            vec![],
            resume,
            Answer::Wrong("asked for the bytes from 10 on, it sends \"no Content-Range\"".into()),
        ),
        (206, vec![], None, Answer::Wrong("206 Partial Content to a request for a file".into())),
        (204, vec![], None, Answer::Wrong("204 No Content to a request for a file".into())),
        (416, vec![], resume, Answer::Again("the source has fewer bytes than are here")),
        (416, vec![], None, Answer::Refused),
        (302, vec![], None, Answer::Refused),
        (404, vec![], resume, Answer::Refused),
    ];
    for (status, pairs, resume, answer) in table {
        let found = understand(StatusCode::from_u16(status).unwrap(), &headers(&pairs), resume, Some(20));
        assert_eq!(found, answer, "{status} {pairs:?} {resume:?}");
    }
}
