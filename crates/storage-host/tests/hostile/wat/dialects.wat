  (import "fermyon:spin/key-value@2.0.0" (instance $spin
    (type $error' (variant
      (case "store-table-full") (case "no-such-store") (case "access-denied") (case "other" string)))
    (export "error" (type $error (eq $error')))
    (export "store" (type $store (sub resource)))
    (export "[static]store.open" (func
      (param "label" string) (result (result (own $store) (error $error)))))
    (export "[method]store.get" (func
      (param "self" (borrow $store)) (param "key" string)
      (result (result (option (list u8)) (error $error)))))
    (export "[method]store.set" (func
      (param "self" (borrow $store)) (param "key" string) (param "value" (list u8))
      (result (result (error $error)))))
    (export "[method]store.delete" (func
      (param "self" (borrow $store)) (param "key" string) (result (result (error $error)))))
    (export "[method]store.exists" (func
      (param "self" (borrow $store)) (param "key" string) (result (result bool (error $error)))))
    (export "[method]store.get-keys" (func
      (param "self" (borrow $store)) (result (result (list string) (error $error)))))
  ))
  (alias export $spin "store" (type $spin-store))
  (import "wasi:config/store@0.2.0-rc.1" (instance $config
    (type $error' (variant (case "upstream" string) (case "io" string)))
    (export "error" (type $error (eq $error')))
    (export "get" (func
      (param "key" string) (result (result (option string) (error $error)))))
    (export "get-all" (func
      (result (result (list (tuple string string)) (error $error)))))
  ))
  (import "wasi:logging/logging@0.1.0-draft" (instance $logging
    (type $level' (enum "trace" "debug" "info" "warn" "error" "critical"))
    (export "level" (type $level (eq $level')))
    (export "log" (func
      (param "level" $level) (param "context" string) (param "message" string)))
  ))
