//! Errors as OpenAI's clients read them: `{"error": {message, type, param, code}}`.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use infer::InferError;
use serde_json::{Value, json};

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    /// The field of the request that is at fault.
    pub(crate) param: Option<String>,
    /// A word for programs.
    pub(crate) code: Option<&'static str>,
    /// Seconds after which another attempt may succeed.
    pub(crate) retry_after: Option<u64>,
}

pub(crate) type Result<T> = std::result::Result<T, ApiError>;

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        ApiError { status, message: message.into(), param: None, code: None, retry_after: None }
    }

    /// A request that makes no sense because of one of its fields.
    pub(crate) fn field(param: impl Into<String>, message: impl Into<String>) -> Self {
        let error = ApiError::new(StatusCode::BAD_REQUEST, message);
        ApiError { param: Some(param.into()), ..error }
    }

    /// A field that is understood but not supported.
    pub(crate) fn unsupported(param: &str, message: impl Into<String>) -> Self {
        ApiError::field(param, message).coded("unsupported_parameter")
    }

    pub(crate) fn coded(self, code: &'static str) -> Self {
        ApiError { code: Some(code), ..self }
    }

    /// The engine computes no more.
    pub(crate) fn unavailable(reason: impl Into<String>) -> Self {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, reason).coded("engine_unavailable")
    }

    /// Too many requests wait.
    pub(crate) fn busy(message: impl Into<String>, retry_after: u64) -> Self {
        let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, message);
        ApiError { retry_after: Some(retry_after), ..error.coded("rate_limit_exceeded") }
    }

    /// The prompt does not fit.
    pub(crate) fn too_long(param: &str, tokens: usize, limit: usize) -> Self {
        let message = format!(
            "the prompt has {tokens} tokens, and this model's maximum context length is {limit} \
             tokens: shorten it"
        );
        ApiError::field(param, message).coded("context_length_exceeded")
    }

    /// What the engine made of a job.
    pub(crate) fn of(error: &InferError, prompt: &str) -> Self {
        let message = error.to_string();
        match *error {
            InferError::TooLong { tokens, limit } => ApiError::too_long(prompt, tokens, limit),
            InferError::QueueFull { waiting } => ApiError::busy(message, 1 + waiting as u64 / 8),
            InferError::Model(_) | InferError::NotFinite { .. } | InferError::Vocabulary { .. } => {
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message).coded("model_failed")
            }
            InferError::Bias { .. } => ApiError::field("logit_bias", message),
            InferError::Prompt(_) | InferError::Token { .. } | InferError::Empty => {
                ApiError::field(prompt, message)
            }
            InferError::Sampling(_) => ApiError::new(StatusCode::BAD_REQUEST, message),
        }
    }

    fn kind(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// The body of the answer, and the object of a stream that fails.
    pub(crate) fn body(&self) -> Value {
        let ApiError { message, param, code, .. } = self;
        json!({ "error": { "message": message, "type": self.kind(), "param": param, "code": code } })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body().to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // Of what stays broken, clients are told that another attempt is useless.
        if matches!(self.status.as_u16(), 408 | 500) {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        response
    }
}
