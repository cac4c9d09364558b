"""Only looks: is the site fit to be tested?"""
