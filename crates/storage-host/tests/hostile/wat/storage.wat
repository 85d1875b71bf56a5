  (import "airssys:core/storage@1.0.0" (instance $storage
    (type $error' (variant
      (case "not-found" string)
      (case "already-exists" string)
      (case "quota-exceeded")
      (case "invalid-key" string)
      (case "io-error" string)))
    (export "storage-error" (type $error (eq $error')))
    (type $usage' (record
      (field "used-bytes" u64) (field "quota-bytes" u64) (field "key-count" u64)))
    (export "storage-usage" (type $usage (eq $usage')))
    (export "get" (func
      (param "key" string) (result (result (option (list u8)) (error $error)))))
    (export "set" (func
      (param "key" string) (param "value" (list u8)) (result (result (error $error)))))
    (export "delete" (func (param "key" string) (result (result (error $error)))))
    (export "exists" (func (param "key" string) (result (result bool (error $error)))))
    (export "list-keys" (func
      (param "prefix" (option string)) (result (result (list string) (error $error)))))
    (export "usage" (func (result (result $usage (error $error)))))
  ))
