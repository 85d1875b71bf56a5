;; For each byte of standard input, reads the key `greeting` and prints its value, or `none`,
;; on a line. Ends with its input, and traps if the store fails.
(component
  (import "airssys:core/errors@1.0.0" (instance $errors
    (type $variant (variant
      (case "not-found" string) (case "already-exists" string) (case "quota-exceeded")
      (case "invalid-key" string) (case "io-error" string)))
    (export "storage-error" (type (eq $variant)))))
  (alias export $errors "storage-error" (type $error))
  (import "airssys:core/storage@1.0.0" (instance $storage
    (alias outer 1 $error (type $outer))
    (export "storage-error" (type $own (eq $outer)))
    (export "get" (func (param "key" string)
      (result (result (option (list u8)) (error $own)))))))
  (import "wasi:io/error@0.2.0" (instance $io
    (export "error" (type (sub resource)))))
  (alias export $io "error" (type $io-error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $io-error (type $outer))
    (export "error" (type $own-error (eq $outer)))
    (type $stream-error (variant (case "last-operation-failed" (own $own-error)) (case "closed")))
    (export "stream-error" (type $stream-error-named (eq $stream-error)))
    (export "input-stream" (type $input (sub resource)))
    (export "output-stream" (type $output (sub resource)))
    (export "[method]input-stream.blocking-read" (func
      (param "self" (borrow $input)) (param "len" u64)
      (result (result (list u8) (error $stream-error-named)))))
    (export "[method]output-stream.blocking-write-and-flush" (func
      (param "self" (borrow $output)) (param "contents" (list u8))
      (result (result (error $stream-error-named)))))))
  (alias export $streams "input-stream" (type $input))
  (alias export $streams "output-stream" (type $output))
  (import "wasi:cli/stdin@0.2.0" (instance $stdin
    (alias outer 1 $input (type $outer))
    (export "input-stream" (type $own (eq $outer)))
    (export "get-stdin" (func (result (own $own))))))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output (type $outer))
    (export "output-stream" (type $own (eq $outer)))
    (export "get-stdout" (func (result (own $own))))))

  (core module $memory
    (memory (export "memory") 1)
    ;; What was returned before is overwritten, and not read any more.
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
  (core instance $memory (instantiate $memory))
  (core func $get (canon lower (func $storage "get")
    (memory $memory "memory") (realloc (func $memory "realloc"))))
  (core func $read (canon lower (func $streams "[method]input-stream.blocking-read")
    (memory $memory "memory") (realloc (func $memory "realloc"))))
  (core func $write (canon lower
    (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory $memory "memory") (realloc (func $memory "realloc"))))
  (core func $get-stdin (canon lower (func $stdin "get-stdin")))
  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core module $main
    (import "host" "memory" (memory 1))
    (import "host" "get" (func $get (param i32 i32 i32)))
    (import "host" "read" (func $read (param i32 i64 i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (import "host" "stdin" (func $stdin (result i32)))
    (import "host" "stdout" (func $stdout (result i32)))
    (data (i32.const 0) "greeting")
    (data (i32.const 16) "\n")
    (data (i32.const 24) "none")
    (func (export "run") (result i32) (local $in i32) (local $out i32)
      (local.set $in (call $stdin))
      (local.set $out (call $stdout))
      (loop $again
        (call $read (local.get $in) (i64.const 1) (i32.const 64))
        (if (i32.load8_u (i32.const 64)) (then (return (i32.const 0))))
        (br_if $again (i32.eqz (i32.load (i32.const 72))))
        (call $get (i32.const 0) (i32.const 8) (i32.const 64))
        (if (i32.load8_u (i32.const 64)) (then (unreachable)))
        (if (i32.load8_u (i32.const 68))
          (then (call $write (local.get $out)
            (i32.load (i32.const 72)) (i32.load (i32.const 76)) (i32.const 128)))
          (else (call $write (local.get $out) (i32.const 24) (i32.const 4) (i32.const 128))))
        (call $write (local.get $out) (i32.const 16) (i32.const 1) (i32.const 128))
        (br $again))
      (i32.const 0)))
  (core instance $main (instantiate $main (with "host" (instance
    (export "memory" (memory $memory "memory"))
    (export "get" (func $get))
    (export "read" (func $read))
    (export "write" (func $write))
    (export "stdin" (func $get-stdin))
    (export "stdout" (func $get-stdout))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
