let textSeeds: [String: [String]] = [
    "otlp-metrics-json": [
        #"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"s"}}]},"scopeMetrics":[{"scope":{"name":"n"},"metrics":[{"name":"m","unit":"s","gauge":{"dataPoints":[{"timeUnixNano":"1700000000000000000","asDouble":1.5}]}},{"name":"c","sum":{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{"startTimeUnixNano":"1","timeUnixNano":"1700000000000000000","asInt":"5"}]}}]}]}]}"#,
        #"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"1700000000000000000","count":"3","sum":2,"bucketCounts":["1","2"],"explicitBounds":[0.5],"exemplars":[{"timeUnixNano":"1","asDouble":1,"traceId":"01"}]}]}},{"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"1700000000000000000","count":3,"scale":1,"zeroCount":1,"positive":{"offset":1,"bucketCounts":["2"]}}]}},{"name":"q","summary":{"dataPoints":[{"timeUnixNano":"1700000000000000000","count":"3","sum":2,"quantileValues":[{"quantile":0.5,"value":1}]}]}}]}]}]}"#,
    ],
    "otlp-logs-json": [
        #"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"s"}}]},"scopeLogs":[{"logRecords":[{"timeUnixNano":"1700000000000000000","severityNumber":9,"severityText":"INFO","body":{"kvlistValue":{"values":[{"key":"a","value":{"arrayValue":{"values":[{"intValue":"5"},{"boolValue":true}]}}}]}},"attributes":[{"key":"k","value":{"doubleValue":1.5}}],"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708"}]}]}]}"#
    ],
    "otlp-traces-json": [
        #"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"s"}}]},"scopeSpans":[{"scope":{"name":"n"},"spans":[{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708","parentSpanId":"","name":"n","kind":2,"startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000000000005","attributes":[{"key":"k","value":{"bytesValue":"AQI="}}],"events":[{"timeUnixNano":"1","name":"e"}],"links":[{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708"}],"status":{"code":2,"message":"m"}}]}]}]}"#
    ],
    "loki-json": [
        #"{"streams":[{"stream":{"app":"x","level":"info"},"values":[["1700000000000000000","hello",{"k":"v"}],["1","\u00e9\n"]]}]}"#,
        #"{"streams":[{"labels":"{app=\"x\"}","entries":[{"ts":"2023-11-14T22:13:20Z","line":"l"}]}]}"#,
    ],
    "json-lines": [
        "{\"_time\":\"2023-11-14T22:13:20.5Z\",\"_msg\":\"hello\",\"app\":\"x\",\"n\":1.5,\"o\":{\"a\":[1]},\"trace_id\":\"0102030405060708090a0b0c0d0e0f10\"}\n{\"ts\":1700000000,\"msg\":\"\\ud83d\\ude00\"}\nnot json\n{}\n"
    ],
    "json-lines-fields": [
        "_time_field=t&_msg_field=m%20x,y&_stream_fields=a,b.c\n{\"t\":1700000000123,\"m x\":\"l\",\"b\":{\"c\":\"v\"},\"level\":\"warn\"}\n"
    ],
    "prometheus-text": [
        "# HELP a b\\n\n# TYPE a histogram\na_bucket{le=\"0.5\"} 1 1700000000000\na_bucket{le=\"+Inf\"} 2\na_sum 3\na_count 2\nb{x=\"\\\"y\\\\\"} NaN\n{\"é\",c=\"d\"} 0x1p3\n"
    ],
    "open-metrics": ["# TYPE a counter\n# UNIT a_seconds seconds\na_total{x=\"y\"} 5 1700000000.5 # {trace_id=\"t\"} 1 1700000000\na_created 1\n# EOF\n"],
    "json-document": [#"{"a":[1,-2.5e3,true,null,"\u00e9\\"],"b":{"c":18446744073709551615}}"#, "[\"\\ud800\"]", "[[[[]]]]"],
    "json-scanner": [#"{"a":[1,-2.5e3,true,null,"\u00e9\\"],"b":{"c":1}}"#, "\"\\ud83d\\ude00\""],
    "numbers-and-times": ["2023-11-14T22:13:20.123456789+02:00", "1.5e-300", "0x1.8p3", "1700000000.5", "1w2d3h4m5s6ms", "level=warn x", "AQID+/=", "-1.5h"],
    "promql": [
        "sum by (job, a) (rate(x_total{a=\"b\",c!~\"d|e\"}[5m] offset -1h @ start())) / on (job) group_left (k) avg without (z) (y) > bool 1.5e3",
        "histogram_quantile(0.9, sum(rate(h_bucket[1h30m:1m])) by (le)) or -x ^ 2 unless label_replace(up, \"a\", \"$1\", \"b\", '(.*)')",
        "topk(3, {\"a.b\", __name__=~`x.*`} @ 1609746000.5) and 0x1F + 1_000 % Inf", "count_values(\"v\", {x=''} [5m:step()])", "x smoothed # c\n+ 5m",
    ],
    "logql": [
        "sum by (a) (rate({app=\"x\", b=~\"y.*\"} |= \"e\" != `f` |~ \"g\" or \"h\" | json a=\"b.c\" | a > 5 and b = \"c\" or (d < 1.5s) [5m] offset 1h)) > bool 2",
        "{a=\"b\"} | logfmt --strict | line_format `{{ .a | ToUpper }}{{ if eq .b \"c\" }}x{{ end }}` | label_format x=y, z=`{{.q}}` | drop a, b=\"c\" | keep d",
        "topk(3, quantile_over_time(0.9, {a=\"b\"} | unwrap duration(x) [1m]) by (c)) / on (c) group_left count_over_time({a=\"b\"}[1m])",
        "{a=\"b\"} | pattern `<ip> - <_>` | regexp `(?P<x>\\d+)` | unpack | decolorize | ip = ip(\"10.0.0.0/8\") | x >= 5KB",
        "label_replace(vector(1), \"a\", \"b\", \"c\", \"d\")",
    ],
    "logql-lines": [
        "\u{0}{\"a\":{\"b\":[1,\"x\"]},\"c\":null,\"d\":\"\\u00e9\"}", "\u{1}a=b c=\"d e\" f= =g \"h\"", "\u{2}{\"b\":{\"c\":[5]},\"e\":1}", "\u{3}a=b \"",
        "\u{4}{\"_entry\":\"x\",\"a\":\"b\"}",
        "\u{5}10.0.0.1 - x [t] \"GET /\" 200", "\u{6}key=value", "\u{7}\u{1b}[31mred\u{1b}[0m", "\u{8}a 10.1.2.3 b ::1",
        "\u{9}{\"took\":\"1.5s\",\"size\":\"5KB\",\"code\":500}", "\u{a}hello x",
        "\u{b}a=2023-01-02",
    ],
    "traceql": [
        "{ .a = 1 && span.b != `c` || !(resource.d =~ \"e.*\") }",
        "({ .a } >> { .b }) &> { .c } | by(.x) | count() + 1 > 2 * 3 | select(.y, span.z) | coalesce()",
        "{ span:duration > 1.5h && kind = server && status != ok } | rate() by (name)",
        "{ event.\"a b\".c = 1 } !~ { link:spanID = \"x\" } with (most_recent=true)",
        "{ -.a ^ 2 % 3 < 5 && parent.span.x = nil } | avg(duration) > 1s",
    ],
    "alert-template": [
        "{{ $labels.job }} is {{ $value | humanize }} {{ range query \"up\" }}{{ .Labels.a }}={{ .Value }} {{ end }}{{ if gt $value 1.0 }}x{{ else }}y{{ end }}",
        "{{ define \"t\" }}{{ . }}{{ end }}{{ template \"t\" 5 }}{{ with $x := 5 }}{{ $x }}{{ end }}{{- /* c */ -}}",
        "{{ printf \"%5.2f %s %d %q\" 1.5 \"a\" 3 \"b\" }}{{ humanizeDuration 93784 }}{{ reReplaceAll \"a(.)\" \"$1\" \"ab\" }}",
    ],
    "alert-state": [
        #"{"version":1,"savedAt":1700000000000,"groups":[{"group":"g","rule":"r","alerts":[{"labels":{"a":"b"},"annotations":[["c","d"]],"value":"1","state":"firing","activeAt":1700000000000,"firedAt":1}]}],"webhook":[{"name":"n","alerts":[]}]}"#
    ],
    "epochs": ["obs epochs 1\n1 256 1024 65536 8388608 64\n2 128 1024 65536 8388608 64\nchecksum 0000000000000000\n"],
    "epochs-sealed": ["obs epochs 1\n1 256 1024 65536 8388608 64\n2 128 1024 65536 8388608 64", "obs epochs 2\nx"],
    "store-version": ["obs store 1\nsecret 0123456789abcdef\n", "obs store 2\n"],
    "query-parameters": [
        "start=1700000000.5&end=2023-11-14T22:13:20Z&step=1h30m&limit=100&time=-9e18", "since=1.5h&start=1700000000000000000&n=-1&step=250us",
        "a=9223372036854775807&b=1e300&c=nan&d=-0x1p3&e=292277025-08-18T07:12:54.999999999Z",
    ],
    "form": ["a=b&c=%41+d&%zz=&=x&e"],
    "token-file": ["# name scopes hash\nci read,write tenant=a 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae\n"],
    "yaml": [
        "a: [1, 2.5, yes, ~, \"x\\u00e9\", 'y']\nb: &x {c: 5m, d: 1MB}\ne: |\n  text\n  more\nf:\n- g\n- h: i\n", "{\"json\": [1, {\"a\": null}]}",
        "? complex\n: value\n--- \n%YAML 1.1\n",
    ],
    "scrape-configuration": [
        "global: {scrape_interval: 15s}\nscrape_configs:\n- job_name: n\n  static_configs: [{targets: [\"l:9\", \"[::1]:80\"], labels: {a: b}}]\n  relabel_configs:\n  - {source_labels: [__address__], regex: '(.*):\\d+', target_label: h, replacement: $1}\n  - {action: hashmod, source_labels: [h], modulus: 7, target_label: m}\n  params: {m: [x]}\n  body_size_limit: 1MB\n"
    ],
    "target-groups": ["- targets: [\"a:1\"]\n  labels: {x: y}\n", "[{\"targets\": [\"b:2\", \"c\"], \"labels\": {\"q\": \"r\"}}]"],
    "rule-file": [
        "groups:\n- name: a\n  interval: 30s\n  rules:\n  - record: x:y\n    expr: sum(up)\n  - alert: D\n    expr: up == 0\n    for: 5m\n    labels: {s: p}\n    annotations: {t: \"{{ $labels.job }}\"}\n"
    ],
]
