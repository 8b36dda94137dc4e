//! The calculator (chapter 40 §12): registered as `calculator`, known to models as `calc`.

use collodi_chat::tool::{Tool, ToolContext, ToolSpec};
use collodi_profiles::json::Object;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Number, Value, json};

/// Adds, subtracts, multiplies and divides two numbers.
pub struct Calculator {
    spec: ToolSpec,
}

impl Default for Calculator {
    fn default() -> Self {
        let parameters = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": "https://github.com/go-go-golems/pinocchio/cmd/agents/simple-chat-agent/pkg/tools/calc-request",
            "type": "object",
            "properties": {
                "a": {"type": "number", "description": "The first number"},
                "b": {"type": "number", "description": "The second number"},
                "op": {
                    "type": "string",
                    "enum": ["add", "sub", "mul", "div"],
                    "description": "What to do with them",
                    "default": "add",
                },
            },
            "additionalProperties": false,
            "required": ["a", "b"],
        });
        let description = "Calculates with two numbers: add, sub, mul or div.".to_owned();
        Self { spec: ToolSpec { name: "calc".into(), description, parameters } }
    }
}

impl Tool for Calculator {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn listed_as(&self) -> &'static str {
        "calculator"
    }

    /// Models write `ADD`, and operations that there are not: both are for [`calculate`] to judge.
    fn is_lenient(&self, argument: &str) -> bool {
        argument == "op"
    }

    fn call(&self, arguments: Object, _: ToolContext) -> BoxFuture<'static, Result<Value, String>> {
        let number = |name: &str| arguments.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
        let op = arguments.get("op").and_then(Value::as_str).unwrap_or("add");
        let result = calculate(number("a"), number("b"), op);
        async move { result.map(|result| json!({ "result": result })) }.boxed()
    }
}

fn calculate(a: f64, b: f64, op: &str) -> Result<Value, String> {
    let result = match op.trim().to_ascii_lowercase().as_str() {
        "" | "add" => a + b,
        "sub" => a - b,
        "mul" => a * b,
        "div" if b == 0.0 => return Err("division by zero".into()),
        "div" => a / b,
        _ => return Err(format!("unknown op: {op}")),
    };
    #[expect(clippy::cast_possible_truncation, reason = "checked to be integral and in range")]
    if result.fract() == 0.0 && result.abs() < 9e15 {
        return Ok((result as i64).into());
    }
    Number::from_f64(result)
        .map(Value::Number)
        .ok_or_else(|| "result is not a finite number".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_errors_follow_the_contract() {
        let calc = |a, b, op| calculate(a, b, op).map(|v| v.to_string());
        assert_eq!(calc(2.0, 3.0, "add"), Ok("5".into()));
        assert_eq!(calc(2.0, 3.0, "SUB"), Ok("-1".into()));
        assert_eq!(calc(1.5, 3.0, "mul"), Ok("4.5".into()));
        assert_eq!(calc(1.0, 4.0, "div"), Ok("0.25".into()));
        assert_eq!(calc(1.0, 0.0, "div"), Err("division by zero".into()));
        assert_eq!(calc(1.0, 2.0, "pow"), Err("unknown op: pow".into()));
        assert_eq!(calc(1e308, 10.0, "mul"), Err("result is not a finite number".into()));
    }
}
