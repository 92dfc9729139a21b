//! Errors in words.

use std::error::Error;

/// An error and its causes, each once, in one line. What an API server says is said in its own words.
pub(crate) fn words(error: &(dyn Error + 'static)) -> String {
    let mut text = own(error);
    let mut cause = error.source();
    while let Some(source) = cause {
        let words = own(source);
        // Some say their cause in full, with all that an API server has sent.
        text = text.replace(&source.to_string(), &words);
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        // An API server has said it all; of what keeps from reaching one, the last cause says most.
        if matches!(source.downcast_ref(), Some(kube::Error::Api(_))) {
            break;
        }
        cause = source.source();
    }
    text
}

fn own(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => status.message.clone(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use kube::runtime::watcher;

    use super::*;
    use crate::apply::ApplyError;
    use crate::controller::ReconcileError;

    #[test]
    fn an_error_says_what_failed_and_what_the_api_server_said_and_no_more() {
        let source =
            || kube::Error::Api(Box::new(Status { code: 403, message: "quota".into(), ..Status::default() }));
        let (kind, namespace, name) = ("Service".into(), "a".into(), "b".into());
        let error = ApplyError::Write { action: "apply", kind, namespace, name, source: source() };
        let error = ReconcileError::Apply(error);
        assert_eq!(words(&error), "cannot apply: cannot apply Service a/b: quota");
        let error = watcher::Error::InitialListFailed(source());
        assert_eq!(words(&error), "failed to perform initial object list: quota");
    }

    #[tokio::test]
    async fn an_api_server_that_is_not_reached_is_told_with_the_reason() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        drop(listener);
        let mut config = kube::Config::new(server);
        config.default_retry = false;
        let client = kube::Client::try_from(config).unwrap();
        let words = words(&client.apiserver_version().await.unwrap_err());
        assert!(words.contains("Connection refused"), "{words}");
        assert_eq!(words.matches("Connect)").count(), 1, "each cause once: {words}");
    }
}
