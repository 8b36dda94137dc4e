use super::*;
use serde_json::json;
use std::sync::Mutex;

type Body = fn(Object) -> BoxFuture<'static, Result<Value, String>>;

struct Made {
    spec: ToolSpec,
    body: Body,
}

impl Tool for Made {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call(&self, arguments: Object, _: ToolContext) -> BoxFuture<'static, Result<Value, String>> {
        (self.body)(arguments)
    }
}

fn tools(body: Body) -> ToolSet {
    let parameters = json!({
        "type": "object", "required": ["a"], "additionalProperties": false,
        "properties": {"a": {"type": "integer"}, "op": {"type": "string", "default": "add"}},
    });
    let spec = ToolSpec { name: "t".into(), description: String::new(), parameters };
    let mut set = ToolSet::default();
    set.add(Arc::new(Made { spec, body })).unwrap();
    set
}

async fn outcomes(calls: &[Block], tools: &ToolSet, limits: ToolLimits) -> Vec<String> {
    let calls: Blocks = calls.iter().cloned().map(Arc::new).collect();
    let seen = Mutex::new((0, 0));
    let report = |execution| {
        let mut seen = seen.lock().unwrap();
        match execution {
            Execution::Started(_) => seen.0 += 1,
            Execution::Ended(..) => seen.1 += 1,
        }
    };
    let new_id = || "id".to_owned();
    let results = execute(&calls, tools, limits, &CancellationToken::new(), &new_id, &report).await;
    assert_eq!(*seen.lock().unwrap(), (calls.len(), calls.len()), "every call starts and ends");
    results.iter().map(|block| block.result_text()).collect()
}

fn call(arguments: &str) -> Block {
    Block::tool_call("c", "t", arguments)
}

#[tokio::test]
async fn inf_15_defaults_are_applied_and_arguments_checked() {
    let tools = tools(|arguments| Box::pin(async move { Ok(arguments.into()) }));
    let limits = ToolLimits::default();
    let calls = [call(r#"{"a":1,"odd":2}"#), call("{}"), call("{\"a\":"), call(r#"{"a":"x"}"#)];
    let seen = outcomes(&calls, &tools, limits).await;
    assert_eq!(seen[0], r#"{"a":1,"op":"add"}"#);
    assert!(seen[1].contains("invalid arguments"), "{}", seen[1]);
    assert_eq!(seen[2], r#"{"error":"invalid arguments: not a JSON object"}"#);
    assert!(seen[3].contains("/a"), "{}", seen[3]);
    let other = Block::tool_call("c", "none", "{}");
    assert_eq!(outcomes(&[other], &tools, limits).await, [r#"{"error":"tool not found: none"}"#]);
}

#[tokio::test(start_paused = true)]
async fn inf_1_a_hanging_tool_is_timed_out() {
    let tools = tools(|_| Box::pin(std::future::pending()));
    let seen = outcomes(&[call(r#"{"a":1}"#)], &tools, ToolLimits::default()).await;
    assert_eq!(seen, [r#"{"error":"tool execution timed out after 1m0s"}"#]);
}

#[tokio::test]
async fn inf_11_a_panic_is_the_failure_of_one_call() {
    let tools = tools(|arguments| {
        Box::pin(async move {
            assert!(arguments["a"] != 1, "one is too few");
            Ok(json!("fine"))
        })
    });
    let calls = [call(r#"{"a":1}"#), call(r#"{"a":2}"#)];
    let seen = outcomes(&calls, &tools, ToolLimits::default()).await;
    assert_eq!(seen, [r#"{"error":"tool t failed because of a defect in it"}"#, r#""fine""#]);
}

#[tokio::test]
async fn inf_25_results_are_capped_and_say_so() {
    let tools = tools(|_| Box::pin(async { Ok(json!("é".repeat(MAX_RESULT))) }));
    let seen = outcomes(&[call(r#"{"a":1}"#)], &tools, ToolLimits::default()).await;
    assert!(
        seen[0].len() < MAX_RESULT + 64 && seen[0].ends_with("bytes cut off"),
        "{}",
        seen[0].len()
    );
}

#[tokio::test]
async fn f22_a_hundred_megabytes_are_cut_with_a_mark_also_in_an_error() {
    let result = tools(|_| Box::pin(async { Ok(json!("x".repeat(100_000_000))) }));
    let error = tools(|_| Box::pin(async { Err("\u{e9}".repeat(50_000_000)) }));
    for (set, left_out) in [(result, 100_000_002 - MAX_RESULT), (error, 100_000_000 - MAX_RESULT)] {
        let seen = outcomes(&[call(r#"{"a":1}"#)], &set, ToolLimits::default()).await;
        assert!(seen[0].len() < 2 * MAX_RESULT, "{}", seen[0].len());
        assert!(seen[0].contains(&format!("{left_out} bytes cut off")), "{left_out}");
    }
}

/// Before it has made its future, not inside of it: that is no less this call's alone.
#[tokio::test]
async fn f22_a_tool_that_panics_at_once_fails_its_own_call_and_no_other() {
    let tools = tools(|arguments| {
        assert!(arguments["a"] != 1, "one is too few");
        Box::pin(async { Ok(json!("fine")) })
    });
    let calls = [call(r#"{"a":1}"#), call(r#"{"a":2}"#)];
    let seen = outcomes(&calls, &tools, ToolLimits::default()).await;
    assert_eq!(seen, [r#"{"error":"tool t failed because of a defect in it"}"#, r#""fine""#]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f22_a_tool_that_blocks_its_thread_is_timed_out_and_delays_no_other() {
    // Blocks until the test is over, so that only the deadline can end its call.
    static OVER: Mutex<()> = Mutex::new(());
    let tools = tools(|arguments| {
        Box::pin(async move {
            if arguments["a"] == 1 {
                drop(OVER.lock().unwrap());
            }
            Ok(json!("fine"))
        })
    });
    let limits = ToolLimits { timeout: Duration::from_millis(300), ..ToolLimits::default() };
    let (over, wait) = std::sync::mpsc::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let holder = std::thread::spawn(move || {
        let _held = OVER.lock().unwrap();
        tell.send(()).unwrap();
        let _ = wait.recv();
    });
    told.recv().unwrap();
    let calls = [call(r#"{"a":1}"#), call(r#"{"a":2}"#)];
    let seen = outcomes(&calls, &tools, limits).await;
    drop(over);
    holder.join().unwrap();
    assert_eq!(seen[0], r#"{"error":"tool execution timed out after 300ms"}"#);
    assert_eq!(seen[1], r#""fine""#);
}

#[tokio::test]
async fn f22_unknown_names_and_wrong_arguments_are_told_and_nothing_runs() {
    let tools = tools(|_| panic!("it ran"));
    let arguments = [
        "{\"a\":",
        "[1]",
        "null",
        "\"{}\"",
        "{}",
        r#"{"a":1.5}"#,
        r#"{"a":null}"#,
        r#"{"a":1,"op":2}"#,
    ];
    let mut calls: Vec<Block> = arguments.map(call).into();
    calls.extend(["", "T", "t ", "no_such_tool", "\u{0}"].map(|n| Block::tool_call("c", n, "{}")));
    let seen = outcomes(&calls, &tools, ToolLimits::default()).await;
    for (at, text) in seen.iter().enumerate() {
        let words = if at < arguments.len() { "invalid arguments" } else { "tool not found" };
        assert!(text.starts_with(&format!("{{\"error\":\"{words}")), "{at}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn failing_tools_are_tried_again_when_that_is_asked_for() {
    static CALLS: Mutex<u32> = Mutex::new(0);
    let tools = tools(|_| {
        Box::pin(async {
            let mut calls = CALLS.lock().unwrap();
            *calls += 1;
            if *calls < 3 { Err("not yet".into()) } else { Ok(json!(*calls)) }
        })
    });
    let on_error = OnError::Retry { times: 2, pause: Duration::from_secs(1) };
    let limits = ToolLimits { on_error, ..ToolLimits::default() };
    let begun = tokio::time::Instant::now();
    assert_eq!(outcomes(&[call(r#"{"a":1}"#)], &tools, limits).await, ["3"]);
    assert_eq!(begun.elapsed(), Duration::from_secs(3), "one second, then two");
}

#[tokio::test]
async fn calls_run_at_once_up_to_the_limit_and_keep_their_order() {
    static RUNNING: Mutex<(u32, u32)> = Mutex::new((0, 0));
    let tools = tools(|arguments| {
        Box::pin(async move {
            {
                let mut running = RUNNING.lock().unwrap();
                running.0 += 1;
                running.1 = running.1.max(running.0);
            }
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            RUNNING.lock().unwrap().0 -= 1;
            Ok(arguments["a"].clone())
        })
    });
    let calls: Vec<Block> = (0..10).map(|n| call(&format!("{{\"a\":{n}}}"))).collect();
    let seen = outcomes(&calls, &tools, ToolLimits::default()).await;
    assert_eq!(seen, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!((1..=3).contains(&RUNNING.lock().unwrap().1));
}

#[test]
fn durations_read_as_in_stored_turns() {
    for (millis, text) in
        [(60_000, "1m0s"), (1_000, "1s"), (1_500, "1.5s"), (20, "20ms"), (3_661_000, "1h1m1s")]
    {
        assert_eq!(go_duration(Duration::from_millis(millis)), text);
    }
}

#[test]
fn inf_20_models_are_told_of_tools_in_order_of_name_whatever_came_first() {
    let names = ["zeta", "calc", "sql_query", "alpha", "beta", "gamma", "delta", "eta"];
    let told = |names: &mut dyn Iterator<Item = &&str>| -> Vec<String> {
        let mut set = ToolSet::default();
        for name in names {
            let (name, description) = ((*name).to_owned(), String::new());
            let spec = ToolSpec { name, description, parameters: json!({"type": "object"}) };
            let body: Body = |_| Box::pin(async { Ok(Value::Null) });
            set.add(Arc::new(Made { spec, body })).unwrap();
        }
        set.specs().into_iter().map(|spec| spec.name).collect()
    };
    let seen = told(&mut names.iter());
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!(told(&mut names.iter().rev()), seen);
}
