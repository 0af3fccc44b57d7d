import os

# The workers of the tests share the cores: threads of NumPy's and of scikit-learn's that wait for each other would burn
# more than they do. They read this when they are loaded, which is after this package.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
