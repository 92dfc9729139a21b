//! What an error of a reconcile is about: the next attempt is timed by it, and metrics count by it. Pure.

use prometheus_client::encoding::EncodeLabelValue;

/// What an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum ErrorClass {
    /// Somebody wrote in between.
    Conflict,
    /// The API server, a quota or a policy does not want it: users have to know.
    Refused,
    /// The API server is not there, too busy, or broken.
    Api,
    /// This program, or its machine, is broken.
    Internal,
}

impl ErrorClass {
    /// Of a request to the API server.
    pub(crate) fn of_request(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                409 => Self::Conflict,
                // A namespace on its way out answers 403 or 404 until the ShardCluster is gone, too.
                400 | 403 | 404 | 422 => Self::Refused,
                _ => Self::Api,
            },
            _ => Self::Api,
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn what_an_api_server_answers_has_a_class() {
        for (code, class) in [
            (409, ErrorClass::Conflict),
            (403, ErrorClass::Refused),
            (422, ErrorClass::Refused),
            (429, ErrorClass::Api),
            (500, ErrorClass::Api),
            (503, ErrorClass::Api),
        ] {
            let error = kube::Error::Api(Box::new(Status { code, ..Status::default() }));
            assert_eq!(ErrorClass::of_request(&error), class, "{code}");
        }
    }
}
