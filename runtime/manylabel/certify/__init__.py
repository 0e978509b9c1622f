"""Measures a certificate: graphs beside their reference on real texts, without PyTorch.

    f1          F1 of many labels, and its interval      numpy alone
    comparing   answers beside answers                   -> `manylabel.bundle.certificate.Parity`
    against     a bundle's variants beside its fp32      -> `manylabel.bundle.certificate.Certificate`

Export compares with PyTorch by the same `comparing`.
"""
