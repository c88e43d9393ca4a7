# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 90 · A demonstration
# {{budget}}
#
# ## 90.1 · Doubling

# %% tags=["setup"]
import os


def check(name, answer):
    try:
        right = answer(3) == 6
    except NotImplementedError:
        right = False
    print(name, "passed" if right else "not yet")
    return answer if right else lambda x: 2 * x


def ask(name, letter):
    print(name, letter or "no answer")


# %% [markdown]
# ### {{heading demo/double}}
# Double it, $y = 2x$.

# %% tags=["quiz"]
def double(x):
    """Twice x."""
    ### BEGIN SOLUTION
    twice = 2 * x
    return twice
    ### END SOLUTION

# %% tags=["check"]
double = check("demo/double", double)

# %% tags=["nbval-check-output"]
print(double(21))

# %% [markdown]
# ### {{heading demo/mend}}

# %% tags=["quiz"]
def mend(x):
    y = x
    if x:
        ### BEGIN SOLUTION
        y = x + x
        ### END SOLUTION
        ### BEGIN HANDED OUT
        # y = x * x
        # if y < 0:
        #     y = 0
        ### END HANDED OUT
    return y

# %% tags=["check"]
mend = check("demo/mend", mend)

# %% [markdown]
# ## 90.2 · Why?
# ### {{heading demo/why}}
# {{question demo/why}}

# %% tags=["quiz"]
### BEGIN SOLUTION
why = "b"
### END SOLUTION
### BEGIN HANDED OUT
# why = ""    # type a or b between the quotes
### END HANDED OUT

# %% tags=["check"]
ask("demo/why", why)

# %%
print("working in", os.getcwd(), "effort", os.environ["COURSE_EFFORT"], "data", os.environ["COURSE_DATASET"])
