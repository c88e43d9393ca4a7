def read_folder(*args):
    raise NotImplementedError
